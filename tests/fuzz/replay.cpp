// SPDX-License-Identifier: LGPL-2.1-or-later
// Runs a fuzz target on files and on the files of directories, without a fuzzer: `fuzz_sysfs_attr-replay
// PATH…`.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void run(const std::filesystem::path& path) {
    std::ifstream in{path, std::ios::binary};
    if (!in) throw std::filesystem::filesystem_error{"cannot be opened", path, {}};
    const std::string bytes{std::istreambuf_iterator<char>{in}, {}};
    // A copy of exactly this size, so that a sanitizer sees a read beyond it.
    const std::vector<std::uint8_t> input(bytes.begin(), bytes.end());
    // Before it runs: the last line names the one that crashed.
    std::puts(path.c_str());
    std::fflush(stdout);
    LLVMFuzzerTestOneInput(input.data(), input.size());
}

}  // namespace

int main(int argc, char** argv) {
    try {
        std::vector<std::filesystem::path> paths;
        for (const auto& argument : std::vector<std::string>(argv + 1, argv + argc)) {
            if (std::filesystem::is_directory(argument)) {
                for (const auto& entry : std::filesystem::directory_iterator{argument}) {
                    if (entry.is_regular_file()) paths.push_back(entry.path());
                }
            } else {
                paths.emplace_back(argument);
            }
        }
        std::sort(paths.begin(), paths.end());
        for (const auto& path : paths)
            run(path);
        std::printf("%zu inputs\n", paths.size());
        // A directory that has moved is not a test that passed.
        return paths.empty() ? 1 : 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "replay: %s\n", error.what());
        return 1;
    }
}
