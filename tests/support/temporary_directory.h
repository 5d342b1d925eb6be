// SPDX-License-Identifier: LGPL-2.1-or-later
// A directory of a test's own, gone with everything in it when the test is over.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace vfioap::test {

class TemporaryDirectory {
  public:
    TemporaryDirectory() : path_{(std::filesystem::temp_directory_path() / "vfioap-test-XXXXXX").string()} {
        if (::mkdtemp(path_.data()) == nullptr)
            throw std::system_error{errno, std::generic_category(), "mkdtemp " + path_};
    }
    ~TemporaryDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    TemporaryDirectory(TemporaryDirectory&&) = delete;
    TemporaryDirectory& operator=(TemporaryDirectory&&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    std::string path_;
};

}  // namespace vfioap::test
