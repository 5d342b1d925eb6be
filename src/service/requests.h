// SPDX-License-Identifier: LGPL-2.1-or-later
// The way of every call: who asks, may he, his turn, the answer. Nothing that is thrown gets out of it but as
// an error reply.
#pragma once

#include "service/bus.h"
#include "service/gate.h"
#include "service/jobs.h"

#include <cstddef>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace vfioap {

/// An error reply of this service: `org.vfioap1.Error.NAME`.
class CallError : public std::exception {
  public:
    CallError(std::string name, std::string message) : name_{std::move(name)}, message_{std::move(message)} {}
    [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }
    [[nodiscard]] const std::string& name() const { return name_; }

  private:
    std::string name_;
    std::string message_;
};

/// The error reply for the exception that is being handled.
sdbus::Error current_error();
/// Whether `error` is one that this project throws and callers are told of, and no failure of the service
/// itself.
bool is_known_error(const std::exception_ptr& error);

/// What an answer may have. A bus takes messages of 32 MiB where nobody has changed that, and throws out who
/// sends a larger one. The rest is for what is around the answer.
constexpr std::size_t most_answer = std::size_t{32} * 1024 * 1024 - 4096;

/// At least as many bytes as `value` takes in a message.
inline std::size_t size_in_message(const std::string& value) {
    return value.size() + 8;
}
inline std::size_t size_in_message(const std::vector<std::string>& values) {
    std::size_t size = 8;
    for (const auto& value : values)
        size += size_in_message(value);
    return size;
}
inline std::size_t size_in_message(const sdbus::UnixFd&) {
    return 4;
}

/// Throws CallError where the values are too much for one message.
template <typename... Out>
void limit_answer(const Out&... values) {
    const auto size = (std::size_t{0} + ... + size_in_message(values));
    if (size > most_answer)
        throw CallError{"LimitsExceeded", "the answer would have " + std::to_string(size) +
                                              " bytes, more than a message may have"};
}

/// Options of a call, `a{sv}`. What is unknown or of a wrong type is InvalidInput.
class CallOptions {
  public:
    explicit CallOptions(const std::map<std::string, sdbus::Variant>& given) : given_{given} {}
    [[nodiscard]] std::string word(const std::string& name, std::string otherwise);
    [[nodiscard]] bool flag(const std::string& name);
    /// After all that are known were asked for: refuses the others.
    void done() const;

  private:
    const std::map<std::string, sdbus::Variant>& given_;
    std::vector<std::string> known_;
};

class Requests {
  public:
    Requests(Gate& gate, Jobs& jobs) : gate_{gate}, jobs_{jobs} {}

    /// Of the message that `object` is handling.
    static Caller caller_of(const sdbus::IObject& object);

    /// Answers `result` with what `work` returns, a tuple, when the caller may and it is his turn. `owner`:
    /// for Permission::owner.
    template <typename... Out, typename Work>
    void serve(const sdbus::IObject& object, const std::string& member, sdbus::Result<Out...>&& result,
               Work work, const std::string& owner = {}) {
        admit(object, member, std::move(result), owner, [work](const auto& shared) {
            const std::tuple<Out...> answer{work()};
            std::apply(
                [&](const auto&... values) {
                    limit_answer(values...);
                    shared->returnResults(values...);
                },
                answer);
        });
    }

    /// The same for what takes long: `work` is given a function that answers, with an error or with a tuple.
    template <typename... Out, typename Work>
    void serve_later(const sdbus::IObject& object, const std::string& member, sdbus::Result<Out...>&& result,
                     Work work) {
        admit(object, member, std::move(result), {}, [work](const auto& shared) {
            work([shared](const sdbus::Error* error, const std::tuple<Out...>& answer) {
                answer_errors(*shared, [&] {
                    if (error != nullptr) throw *error;
                    std::apply(
                        [&](const auto&... values) {
                            limit_answer(values...);
                            shared->returnResults(values...);
                        },
                        answer);
                });
            });
        });
    }

    /// Does `work`, and answers with the error that it throws.
    template <typename Result, typename Work>
    static void answer_errors(Result& result, Work work) noexcept {
        try {
            try {
                work();
            } catch (...) {
                result.returnError(current_error());
            }
        } catch (...) {
            // The caller, or the bus, is gone: nobody is left to answer.
        }
    }

  private:
    template <typename... Out, typename Work>
    void admit(const sdbus::IObject& object, const std::string& member, sdbus::Result<Out...>&& result,
               const std::string& owner, Work work) {
        auto shared = std::make_shared<sdbus::Result<Out...>>(std::move(result));
        answer_errors(*shared, [&] {
            const auto caller = caller_of(object);
            gate_.check(
                caller, permission_of(member), owner,
                [this, caller, shared, work](const sdbus::Error* refused) {
                    answer_errors(*shared, [&] {
                        if (refused != nullptr) throw *refused;
                        if (!jobs_.add(caller.name,
                                       [shared, work] { answer_errors(*shared, [&] { work(shared); }); }))
                            throw CallError{"LimitsExceeded", "too many calls wait; wait for answers"};
                    });
                });
        });
    }

    Gate& gate_;
    Jobs& jobs_;
};

}  // namespace vfioap
