// SPDX-License-Identifier: LGPL-2.1-or-later
// The attributes of one element, as libxml2's SAX2 interface gives them.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace vfioap {

/// Attributes as xmlSAXHandler::startElementNs gets them, five pointers each (name, prefix, URI, value, end
/// of the value). Those of a namespace are not ours. Valid during the callback only. An `&` in a value comes
/// as `&#38;`, since entities are not replaced.
class XmlAttributes {
  public:
    XmlAttributes(const unsigned char** fields, int count)
        : fields_{fields}, count_{static_cast<std::size_t>(count)} {}

    [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const {
        for (std::size_t i = 0; i < count_; ++i) {
            const unsigned char** const field = fields_ + i * 5;
            if (field[1] != nullptr || field[2] != nullptr || name != reinterpret_cast<const char*>(field[0]))
                continue;
            const auto* const value = reinterpret_cast<const char*>(field[3]);
            return std::string_view{value, static_cast<std::size_t>(field[4] - field[3])};
        }
        return {};
    }
    [[nodiscard]] bool is(std::string_view name, std::string_view value) const { return find(name) == value; }

  private:
    const unsigned char** fields_;
    std::size_t count_;
};

}  // namespace vfioap
