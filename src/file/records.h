// SPDX-License-Identifier: LGPL-2.1-or-later
// Directories that have a file `UUID.json` for each of something.
#pragma once

#include "ap/error.h"
#include "ap/uuid.h"
#include "file/directory.h"

#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace vfioap {

/// What `read` gives for the UUID of each such file, in the order of their names; other files are passed
/// over. `read` returns a std::optional, which is empty where the file has gone meanwhile. What cannot be
/// read, the directory or a file, is told in `problems`, and keeps nothing else from being read.
template <typename Read>
auto read_records(const std::string& directory, std::vector<std::string>& problems, Read read) {
    std::vector<typename std::invoke_result_t<Read&, const Uuid&>::value_type> records;
    std::vector<std::string> names;
    try {
        names = list_directory(directory);
    } catch (const SystemError& problem) {
        problems.emplace_back(problem.what());
    }
    for (const auto& name : names) {
        const std::filesystem::path file{name};
        const auto uuid = Uuid::parse(file.stem().string());
        if (!uuid || file.extension() != ".json") continue;
        try {
            if (auto record = read(*uuid)) records.push_back(std::move(*record));
        } catch (const Error& problem) {
            problems.emplace_back(problem.what());
        }
    }
    return records;
}

}  // namespace vfioap
