// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/requests.h"

#include "ap/error.h"
#include "service/worker.h"
#include "text/safe.h"

#include <algorithm>
#include <cerrno>
#include <new>

namespace vfioap {
namespace {

sdbus::Error named(const std::string& name, std::string_view message) {
    return bus::error(bus::error_prefix + name, safe(message));
}

}  // namespace

sdbus::Error current_error() {
    try {
        throw;
    } catch (const sdbus::Error& error) {
        return error;
    } catch (const CallError& error) {
        return named(error.name(), error.what());
    } catch (const InputError& error) {
        return named("InvalidInput", error.what());
    } catch (const TimedOutError& error) {
        return named("TimedOut", error.what());
    } catch (const UnreachableError& error) {
        return named("Unreachable", error.what());
    } catch (const SystemError& error) {
        return named(error.number() == EBUSY ? "Busy" : "System", error.what());
    } catch (const std::bad_alloc&) {
        return named("NoMemory", "out of memory");
    } catch (const std::exception& error) {
        return named("Failed", error.what());
    } catch (...) {
        return named("Failed", "unknown exception");
    }
}

bool is_known_error(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const sdbus::Error&) {
        return true;
    } catch (const CallError&) {
        return true;
    } catch (const Error&) {
        return true;
    } catch (...) {
        return false;
    }
}

std::string CallOptions::word(const std::string& name, std::string otherwise) {
    known_.push_back(name);
    const auto found = given_.find(name);
    if (found == given_.end()) return otherwise;
    if (!found->second.containsValueOfType<std::string>())
        throw InputError{"option " + name, "expected a string"};
    return found->second.get<std::string>();
}

bool CallOptions::flag(const std::string& name) {
    known_.push_back(name);
    const auto found = given_.find(name);
    if (found == given_.end()) return false;
    if (!found->second.containsValueOfType<bool>()) throw InputError{"option " + name, "expected a boolean"};
    return found->second.get<bool>();
}

void CallOptions::done() const {
    for (const auto& [name, value] : given_) {
        if (std::find(known_.begin(), known_.end(), name) == known_.end())
            throw InputError{"option " + name.substr(0, 100), "not known here"};
    }
}

Caller Requests::caller_of(const sdbus::IObject& object) {
    const auto sender = bus::sender_of(object);
    if (sender.name.empty()) throw CallError{"Failed", "a call without a sender"};
    return {sender.name, sender.allows_interaction};
}

}  // namespace vfioap
