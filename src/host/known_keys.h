// SPDX-License-Identifier: LGPL-2.1-or-later
// Master keys remembered. The kernel shows those of a queue only while a driver of the host (zcrypt) has it;
// once vfio_ap has it for a guest, nobody can ask any more. So they are kept from before, in a file, and an
// administrator can give those that were never seen. man 5 vfioap-keys.
#pragma once

#include "host/inventory.h"

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace vfioap {

inline constexpr std::string_view known_keys_schema = "vfioap-known-keys/1";
/// Larger files are not read: 65,536 queues with keys of their own need less.
inline constexpr std::size_t known_keys_max_bytes = std::size_t{64} * 1024 * 1024;

/// What was seen of one queue, or given for it.
struct KnownKey {
    std::shared_ptr<const MasterKeys> keys;  ///< never null
    std::string serialnr;                    ///< of the card at that time; empty: not known
    std::chrono::sys_seconds seen{};         ///< when last
};

class KnownKeys {
  public:
    /// After so long, that the same keys were seen again is worth writing down.
    static constexpr std::chrono::hours refresh{24};

    /// Takes the master keys of the queues that are not bound to vfio_ap. What a queue that did not answer
    /// shows (every register unknown) does not replace what is known. Returns whether save() has something
    /// new to write: other keys, another card, or a time older than `refresh`.
    bool remember(const Inventory& inventory, std::chrono::sys_seconds now);

    /// Gives keys to the queues that have none: those of the administrator, else those remembered; but none
    /// where the card is another one than it was (its serial number), or where keys of such a kind cannot be
    /// the queue's (CCA, EP11), as far as these are known.
    void merge_into(Inventory& inventory) const;

    /// Those of the administrator, in the place of all given before. They are not saved.
    void give(std::map<Apqn, KnownKey> keys) { given_ = std::move(keys); }

    /// Those remembered.
    [[nodiscard]] const std::map<Apqn, KnownKey>& remembered() const { return remembered_; }
    [[nodiscard]] const std::map<Apqn, KnownKey>& given() const { return given_; }

  private:
    friend struct LoadedKeys load_known_keys(const std::string& path);

    std::map<Apqn, KnownKey> remembered_;
    std::map<Apqn, KnownKey> given_;
};

struct LoadedKeys {
    KnownKeys keys;
    std::string message;  ///< why they begin anew, and where the old file is; empty: nothing is wrong
};

/// From a file of save_known_keys(); none where it is not there. A file that is damaged, too large or of an
/// unknown version is set aside as PATH.damaged (or PATH.damaged.1 to .9, of which the last is replaced), so
/// that nothing is lost; the message says so. Throws SystemError where the file cannot be read.
LoadedKeys load_known_keys(const std::string& path);

/// Writes what is remembered: to a temporary file beside `path`, mode 0600, fsync, rename, fsync of the
/// directory. Throws SystemError; the old file is then as it was.
void save_known_keys(const std::string& path, const KnownKeys& keys);

struct GivenKeys {
    std::map<Apqn, KnownKey> keys;
    std::vector<std::string> messages;  ///< `PATH:LINE: what was found; expected what`
};

/// The administrator's file as text: lists of queues in brackets, each followed by lines of `mkvps`.
///
///     [05.0004 05.0047]
///     AES CUR: valid 0x0123456789abcdef
///
/// Empty lines and those that begin with `#` are nothing. What cannot be understood is left out, with its
/// whole section, and said. `origin` names the text in messages.
GivenKeys parse_given_keys(std::string_view text, const std::string& origin);
/// From a file of at most known_keys_max_bytes; none where it is not there. What cannot be read becomes a
/// message.
GivenKeys load_given_keys(const std::string& path);

}  // namespace vfioap
