// SPDX-License-Identifier: LGPL-2.1-or-later
// An inventory as one JSON document, format `vfioap-snapshot/1`: man 5 vfioap-snapshot,
// xml/vfioap-snapshot.schema.json.
#pragma once

#include "host/inventory.h"

#include <iosfwd>
#include <string>
#include <string_view>

namespace vfioap {

inline constexpr std::string_view snapshot_schema = "vfioap-snapshot/1";
/// Larger files are refused: 65,536 queues with everything known need less.
inline constexpr std::size_t snapshot_max_bytes = std::size_t{128} * 1024 * 1024;

/// Writes the document, in memory that does not grow with the number of queues; one card, queue and mdev a
/// line. `taken`: when the inventory was read, `YYYY-MM-DDThh:mm:ssZ`; empty: not said. What is not UTF-8,
/// not printable or too long in the inventory is replaced or cut, so that read_snapshot() takes what this
/// wrote. The caller looks at the state of the stream.
void write_snapshot(std::ostream& out, const Inventory& inventory, std::string_view taken);

/// The same to a file, atomically: a temporary file beside it, fsync, rename. Throws SystemError, and
/// InputError where `path` is something that is neither a file nor absent: a rename would put a file in the
/// place of /dev/stdout, and a link could lead anywhere. The file is then as it was before.
void save_snapshot(const std::string& path, const Inventory& inventory, std::string_view taken);

/// Reads a document; untrusted. `origin` names it in errors and, as `snapshot:ORIGIN`, in
/// Inventory::location. Unknown members are ignored. Throws InputError with the JSON path
/// (`$.queues[3].apqn`) and what was expected, for a wrong type, a value out of range, a missing or doubled
/// member, a doubled queue, card or mdev; with line and column for text that is not JSON.
Inventory read_snapshot(std::istream& in, const std::string& origin);

/// The same from a file; the canonical path becomes the location. Throws SystemError, InputError.
Inventory load_snapshot(const std::string& path);

}  // namespace vfioap
