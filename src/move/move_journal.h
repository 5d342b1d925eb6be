// SPDX-License-Identifier: LGPL-2.1-or-later
// What a move needs to know to be brought to an end by somebody else, after its mover has died: one file for
// each guest that is being moved, /var/lib/vfioap/moves/GUEST-UUID.json.
#pragma once

#include "ap/uuid.h"
#include "file/descriptor.h"

#include <optional>
#include <string>
#include <vector>

namespace vfioap {

/// `vfioap-move/1`.
struct MoveRecord {
    std::string guest;  ///< name of the domain
    Uuid guest_uuid;
    Uuid mdev;
    std::string source_uri;       ///< of libvirt
    std::string destination_uri;  ///< of libvirt
    std::string source;           ///< host location, as for --source
    std::string destination;      ///< host location, as for --destination
    std::string state;            ///< of the guest before the move: state_metadata()
    bool was_persistent = false;  ///< it was defined at the source
    bool defined_there = false;   ///< the move defines it at the destination, where it was not
    std::string step;             ///< what was begun last: a word of MoveStep, or `prepare`
    bool prepared = false;        ///< the destination was made ready for it, which is to be taken back
    friend bool operator==(const MoveRecord&, const MoveRecord&) = default;
};

inline constexpr const char* move_directory = "/var/lib/vfioap/moves";

/// Keeps others from moving the same guest, as long as this process lives.
class MoveLock {
  public:
    /// Throws InputError where somebody has it, SystemError.
    explicit MoveLock(const std::string& path);

  private:
    Descriptor fd_;
};

class MoveJournal {
  public:
    /// `directory` is made when it is written to.
    explicit MoveJournal(std::string directory = move_directory) : directory_{std::move(directory)} {}

    /// Throws as MoveLock does.
    [[nodiscard]] MoveLock lock(const Uuid& guest) const;
    /// Atomic, and on disk when it returns. Throws SystemError.
    void write(const MoveRecord& record) const;
    /// Throws SystemError where it cannot be removed.
    void remove(const Uuid& guest) const;
    /// Throws SystemError, and InputError where the file is damaged: `FILE: what was expected`.
    [[nodiscard]] std::optional<MoveRecord> read(const Uuid& guest) const;
    /// Of all guests, sorted by the name of the guest. What cannot be read is told in `problems`: a damaged
    /// file, or the directory itself, in which there may then be any number of moves. Throws nothing for it.
    [[nodiscard]] std::vector<MoveRecord> all(std::vector<std::string>& problems) const;
    [[nodiscard]] std::string path(const Uuid& guest) const;

  private:
    void make_directory() const;

    std::string directory_;
};

}  // namespace vfioap
