// SPDX-License-Identifier: LGPL-2.1-or-later
// A directory that looks like the sysfs of a host, and what can go wrong with one.
#pragma once

#include "host/inventory.h"

#include <string>

namespace vfioap::test {

/// Lives in a temporary directory and is removed with it. Paths are relative to the root.
class FakeRoot {
  public:
    /// An empty directory.
    FakeRoot();
    /// The host's sysfs.
    explicit FakeRoot(const Inventory& host);
    ~FakeRoot();
    FakeRoot(const FakeRoot&) = delete;
    FakeRoot& operator=(const FakeRoot&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }
    /// Writes a file, with the directories above it.
    void write(const std::string& name, const std::string& text);
    [[nodiscard]] std::string read(const std::string& name) const;
    /// Removes a file, a link or a directory with everything in it.
    void remove(const std::string& name);
    /// Reading it gives EIO from now on.
    void make_unreadable(const std::string& name);
    void make_fifo(const std::string& name);

  private:
    std::string top_;
    std::string path_;
};

/// What two inventories differ in, as a unified text of both for a failing test.
std::string differences(const Inventory& a, const Inventory& b);

}  // namespace vfioap::test
