// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/requests.h"

#include <gtest/gtest.h>

namespace vfioap {
namespace {

TEST(Requests, refuse_an_answer_that_a_bus_does_not_take) {
    const std::string most(most_answer - 8, 'x');
    EXPECT_NO_THROW(limit_answer(most));
    EXPECT_THROW(limit_answer(most + 'x'), CallError);
    // All values of an answer are in one message.
    EXPECT_THROW(limit_answer(most, std::string{}), CallError);
    EXPECT_THROW(limit_answer(std::vector<std::string>(most_answer / 8)), CallError);
    EXPECT_NO_THROW(limit_answer(std::vector<std::string>(most_answer / 8 - 1)));
}

}  // namespace
}  // namespace vfioap
