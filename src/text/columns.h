// SPDX-License-Identifier: LGPL-2.1-or-later
// Text laid out in the columns of a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace vfioap {

/// How many columns a terminal takes to show `text` of one line: 2 for a wide character (East_Asian_Width W
/// and F), 0 for one that combines with what stands before it, else 1; what safe() replaces counts as the `?`
/// that is shown for it. What styled() puts around words takes none.
///
/// By a table of Unicode 14 and not by wcwidth(): that asks the locale of the process, which is C in a hook
/// and in a service, where it knows no character beyond ASCII; a locale of our own need not be installed; and
/// the same report is to break at the same words on every host.
std::size_t columns(std::string_view text);

/// `text` with blanks behind it up to `width` columns.
std::string padded(std::string_view text, std::size_t width);

/// A paragraph: `label`, then `words`, broken between them where a line would have more than `width` columns.
/// The lines after the first begin with `left` blanks. A word that is longer than a line stands in one of its
/// own, whole: people copy it. `words` become safe(); `label` may be styled(). Ends with a newline.
std::string wrap(std::string_view label, std::string_view words, std::size_t left, std::size_t width);

}  // namespace vfioap
