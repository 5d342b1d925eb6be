// SPDX-License-Identifier: LGPL-2.1-or-later
// Files as a whole.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <sys/types.h>

namespace vfioap {

/// Puts a new file in the place of `path`: a temporary one beside it, fsync, rename, fsync of the directory.
/// A link at `path` is itself replaced. Throws SystemError; `path` is then as it was, except where only the
/// last step failed.
void replace_file(const std::string& path, std::string_view bytes, mode_t mode);

/// All of a regular file; nothing where it is not there. Throws SystemError where it cannot be read, is no
/// regular file (EINVAL) or has more than `max_bytes` (EFBIG).
std::optional<std::string> read_file(const std::string& path, std::size_t max_bytes);

}  // namespace vfioap
