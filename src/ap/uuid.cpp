// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/uuid.h"

namespace vfioap {

std::optional<Uuid> Uuid::parse(std::string_view text) {
    if (text.size() != 36) return {};
    std::string lower{text};
    for (std::size_t i = 0; i < lower.size(); ++i) {
        char& c = lower[i];
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (c != '-') return {};
        } else if (c >= 'A' && c <= 'F') {
            c = static_cast<char>(c - 'A' + 'a');
        } else if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return {};
        }
    }
    return Uuid{std::move(lower)};
}

}  // namespace vfioap
