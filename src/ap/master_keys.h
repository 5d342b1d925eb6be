// SPDX-License-Identifier: LGPL-2.1-or-later
// Master key verification patterns (MKVP) of one queue, as the attribute `mkvps` prints them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

/// One register of one master key: a line of `mkvps`.
struct MasterKeyRegister {
    std::string key;   ///< `AES`, `APKA`, `ASYM` (CCA) or `WK` (EP11 wrapping key)
    std::string slot;  ///< `NEW`, `CUR` or `OLD`
    std::string
        state;  ///< `empty`, `partial`, `full`, `invalid`, `valid`, `uncommitted`, `committed`; `-`: unknown
    std::string pattern;  ///< hexadecimal digits without `0x`, lower case; `-`: none given
    friend bool operator==(const MasterKeyRegister&, const MasterKeyRegister&) = default;
};

/// All registers of a queue, in the order printed. The nine lines of CCA or the two of EP11
/// (kernel: drivers/s390/crypto/zcrypt_cex4.c, cca_mkvps_show and ep11_mkvps_show).
class MasterKeys {
  public:
    /// From the text of the attribute. Lines of unknown keys or slots are refused, since a wrong pattern is
    /// worse than none; nothing at all, or any malformed line, gives nothing.
    static std::optional<MasterKeys> parse(std::string_view text);
    /// From lines without their newlines, as a snapshot holds them.
    static std::optional<MasterKeys> from_lines(const std::vector<std::string>& lines);

    [[nodiscard]] std::vector<std::string> lines() const;
    [[nodiscard]] const std::vector<MasterKeyRegister>& registers() const { return registers_; }
    /// The register of `key` and `slot`, or null.
    [[nodiscard]] const MasterKeyRegister* find(std::string_view key, std::string_view slot) const;

    friend bool operator==(const MasterKeys&, const MasterKeys&) = default;

  private:
    std::vector<MasterKeyRegister> registers_;
};

}  // namespace vfioap
