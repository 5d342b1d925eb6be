// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/error.h"

#include <cstring>

#include <fmt/format.h>

namespace vfioap {

std::string errno_name(int number) {
    const char* const name = strerrorname_np(number);
    return name != nullptr && number != 0 ? name : fmt::format("errno {}", number);
}

int errno_number(std::string_view name) {
    // There is no inverse of strerrorname_np; Linux numbers end at 133 (EHWPOISON).
    for (int number = 1; number <= 133; ++number) {
        const char* const candidate = strerrorname_np(number);
        if (candidate != nullptr && name == candidate) return number;
    }
    return 0;
}

std::string errno_text(int number) {
    const char* const text = strerrordesc_np(number);
    return text != nullptr ? text : fmt::format("Unknown error {}", number);
}

SystemError::SystemError(std::string_view operation, std::string_view object, int number)
    : Error{fmt::format("{}: cannot {}: {}", object, operation, errno_text(number))}, number_{number} {}

InputError::InputError(std::string_view object, std::string_view reason)
    : Error{fmt::format("{}: {}", object, reason)} {}

InputError::InputError(std::string_view object, std::string_view where, std::string_view reason)
    : Error{fmt::format("{}: {}: {}", object, where, reason)} {}

}  // namespace vfioap
