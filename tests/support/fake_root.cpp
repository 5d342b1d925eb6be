// SPDX-License-Identifier: LGPL-2.1-or-later
#include "support/fake_root.h"

#include "host/materialize.h"
#include "host/snapshot.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>

#include <sys/stat.h>

namespace vfioap::test {

namespace fs = std::filesystem;

FakeRoot::FakeRoot() {
    std::string name = (fs::temp_directory_path() / "vfioap-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error{"no temporary directory"};
    top_ = name;
    path_ = name + "/host";
    fs::create_directory(path_);
}

FakeRoot::FakeRoot(const Inventory& host) : FakeRoot{} {
    materialize(host, path_);
}

FakeRoot::~FakeRoot() {
    std::error_code ignored;
    fs::remove_all(top_, ignored);
}

void FakeRoot::write(const std::string& name, const std::string& text) {
    const fs::path file = fs::path{path_} / name;
    fs::create_directories(file.parent_path());
    std::ofstream out{file, std::ios::binary | std::ios::trunc};
    out << text;
    if (!out.flush()) throw std::runtime_error{"cannot write " + file.string()};
}

std::string FakeRoot::read(const std::string& name) const {
    std::ifstream in{fs::path{path_} / name, std::ios::binary};
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

void FakeRoot::remove(const std::string& name) {
    if (fs::remove_all(fs::path{path_} / name) == 0) return;
}

void FakeRoot::make_unreadable(const std::string& name) {
    remove(name);
    // Nothing is mapped at address 0.
    fs::create_symlink("/proc/self/mem", fs::path{path_} / name);
}

void FakeRoot::make_fifo(const std::string& name) {
    remove(name);
    if (::mkfifo((fs::path{path_} / name).c_str(), 0600) != 0) throw std::runtime_error{"cannot make a FIFO"};
}

std::string differences(const Inventory& a, const Inventory& b) {
    const auto lines = [](const Inventory& inventory) {
        std::ostringstream text;
        write_snapshot(text, inventory, "");
        std::istringstream in{text.str()};
        std::multiset<std::string> result;
        for (std::string line; std::getline(in, line);)
            result.insert(line);
        return result;
    };
    const auto ours = lines(a);
    const auto theirs = lines(b);
    std::string text;
    for (const auto& line : ours) {
        if (!theirs.contains(line)) text += "- " + line + '\n';
    }
    for (const auto& line : theirs) {
        if (!ours.contains(line)) text += "+ " + line + '\n';
    }
    return text;
}

}  // namespace vfioap::test
