// SPDX-License-Identifier: LGPL-2.1-or-later
// What vfioapctl migrate --all ends with.
#include "move/outcome_table.h"

#include <gtest/gtest.h>

namespace vfioap {
namespace {

TEST(OutcomeTable, of_moves) {
    EXPECT_EQ(render_outcomes({{"guest1", MoveOutcome::moved},
                               {"a-guest-with-a-long-name", MoveOutcome::not_moved},
                               {"g", MoveOutcome::needs_person}}),
              "\n"
              "GUEST                     OUTCOME\n"
              "guest1                    moved\n"
              "a-guest-with-a-long-name  not-moved\n"
              "g                         needs-person\n");
}

TEST(OutcomeTable, of_a_dry_run) {
    EXPECT_EQ(render_outcomes({{"good", MoveOutcome::would_move}, {"bad", MoveOutcome::not_moved}}),
              "\n"
              "GUEST  OUTCOME\n"
              "good   would-move\n"
              "bad    not-moved\n");
}

TEST(OutcomeTable, says_that_there_is_none) {
    EXPECT_EQ(render_outcomes({}), "No guest with a vfio-ap device runs here.\n");
}

TEST(OutcomeTable, is_fit_for_a_terminal) {
    EXPECT_EQ(render_outcomes({{"x\n\x1b[2J", MoveOutcome::moved}, {"gäste", MoveOutcome::moved}}),
              "\n"
              "GUEST   OUTCOME\n"
              "x??[2J  moved\n"
              "gäste   moved\n");
}

}  // namespace
}  // namespace vfioap
