// SPDX-License-Identifier: LGPL-2.1-or-later
// What is in a directory.
#pragma once

#include <string>
#include <vector>

namespace vfioap {

/// The names in the directory `path`, without `.` and `..`, sorted. None where there is no such directory:
/// only ENOENT says so. Whatever else keeps it from being read says nothing of what is in it, so that it
/// throws SystemError, which names the directory.
std::vector<std::string> list_directory(const std::string& path);

/// The same of an open directory, whose own position stays as it is. `path`: its name, for the error.
std::vector<std::string> list_directory(int fd, const std::string& path);

}  // namespace vfioap
