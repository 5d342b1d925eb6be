// SPDX-License-Identifier: LGPL-2.1-or-later
// Whether an element of a domain's metadata says what it should: libvirt stores what it is given, but gives
// it back formatted its own way.
#pragma once

#include <string_view>

namespace vfioap {

/// Whether both are one element with the same content, read as XML: names without namespaces and prefixes,
/// attributes in any order, any white space between and around words as one blank. Comments count for
/// nothing. What is not well-formed, or has a document type declaration, equals nothing. Both empty: the
/// same.
bool same_metadata(std::string_view a, std::string_view b);

}  // namespace vfioap
