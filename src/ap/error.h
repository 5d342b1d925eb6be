// SPDX-License-Identifier: LGPL-2.1-or-later
// The errors that the library throws: it could not work. A verdict is never an error.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace vfioap {

/// `EIO` for the number of EIO; `errno 4711` for a number without a name.
std::string errno_name(int number);
/// The number for `EIO`; 0 for a name that is not known here.
int errno_number(std::string_view name);
/// What strerror() says in the C locale: `Input/output error`; `Unknown error 524` for a number that the C
/// library has no text for. Such numbers arrive: the kernel has errnos of its own from 512 on, such as
/// ENOTSUPP (include/linux/errno.h), and a driver that lets one out gives it to whoever reads its attributes;
/// and a snapshot may name any number. strerrordesc_np() gives a null pointer for them.
std::string errno_text(int number);

/// Base of all. what() is one line that names the thing, fit for standard error.
class Error : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The system refused an operation on an object (a path, mostly).
class SystemError : public Error {
  public:
    /// what(): `OBJECT: cannot OPERATION: errno_text(number)`.
    SystemError(std::string_view operation, std::string_view object, int number);
    [[nodiscard]] int number() const { return number_; }

  private:
    int number_;
};

/// Input that cannot be used: a file, an argument, a document.
class InputError : public Error {
  public:
    /// what(): `OBJECT: REASON`, or `OBJECT: WHERE: REASON` with a place inside the object
    /// (`line 3, column 7`, `$.queues[3].apqn`).
    InputError(std::string_view object, std::string_view reason);
    InputError(std::string_view object, std::string_view where, std::string_view reason);
};

/// A host that did not answer: nothing is known of it, so a verdict is undetermined.
class UnreachableError : public Error {
    using Error::Error;
};

}  // namespace vfioap
