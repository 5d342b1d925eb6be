// SPDX-License-Identifier: LGPL-2.1-or-later
// What applies of plans have made on this host: one file for each mdev, DIRECTORY/MDEV-UUID.json. Written
// before anything is done, so that it can be undone by somebody else.
#pragma once

#include "ap/uuid.h"
#include "plan/applied_change.h"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace vfioap {

/// A file that keeps something for the next boot, and was written.
struct KeptFile {
    std::string path;
    std::optional<std::string> before;  ///< empty: there was none
    std::optional<std::string> after;
    bool written = false;  ///< `after` is known; else whoever wrote may have died meanwhile
    friend bool operator==(const KeptFile&, const KeptFile&) = default;
};

/// `vfioap-applied/1`.
struct AppliedRecord {
    std::string guest;  ///< name of the domain
    std::optional<Uuid> guest_uuid;
    std::optional<Uuid> mdev;            ///< always there
    std::vector<AppliedChange> changes;  ///< in their order
    std::size_t finished = 0;            ///< so many are of applies that came to their end
    std::vector<KeptFile> files;
    friend bool operator==(const AppliedRecord&, const AppliedRecord&) = default;

    /// The last apply did not come to its end.
    [[nodiscard]] bool unfinished() const;
};

class AppliedRecords {
  public:
    /// `directory` is made when it is written to.
    explicit AppliedRecords(std::string directory) : directory_{std::move(directory)} {}

    /// Atomic, and on disk when it returns; a record of nothing is removed. Throws SystemError.
    void write(const AppliedRecord& record) const;
    /// Nothing where there is none. Throws SystemError, and InputError where the file is damaged.
    [[nodiscard]] std::optional<AppliedRecord> read(const Uuid& mdev) const;
    /// Of all mdevs, sorted by their UUID. What cannot be read is told in `problems`: a damaged file, or the
    /// directory itself, in which there may then be any number of records. Throws nothing for it.
    [[nodiscard]] std::vector<AppliedRecord> all(std::vector<std::string>& problems) const;
    [[nodiscard]] std::string path(const Uuid& mdev) const;

  private:
    std::string directory_;
};

}  // namespace vfioap
