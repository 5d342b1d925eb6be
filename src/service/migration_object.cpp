// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/migration_object.h"

#include "ap/error.h"
#include "report/json.h"

#include <array>
#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

namespace vfioap {
namespace {

constexpr std::size_t piece = std::size_t{64} * 1024;

}  // namespace

MigrationObject::MigrationObject(sdbus::IConnection& connection, const std::string& path, Requests& requests,
                                 std::string owner, std::shared_ptr<MigrationDevice> device, bool aborts_job,
                                 std::function<void()> close)
    : AdaptorInterfaces{connection, bus::ObjectPath{path}},
      requests_{requests},
      owner_{std::move(owner)},
      device_{std::move(device)},
      aborts_job_{aborts_job},
      close_{std::move(close)},
      buffer_(piece) {
    told_state_ = State();
    told_layout_ = Layout();
    registerAdaptor();
    emitInterfacesAddedSignal();
}

MigrationObject::~MigrationObject() {
    close_stream();
    try {
        emitInterfacesRemovedSignal();
        unregisterAdaptor();
    } catch (const std::exception&) {
        // Mostly the bus is gone, and all objects with it.
    }
}

template <typename... Out, typename Work>
void MigrationObject::serve(const char* member, sdbus::Result<Out...>&& result, Work work) {
    requests_.serve(
        getObject(), fmt::format("{}.{}", Migration_adaptor::INTERFACE_NAME, member), std::move(result),
        [weak = weak_from_this(), work = std::move(work)] {
            const auto self = weak.lock();
            if (!self) throw CallError{"Closed", "the migration is closed"};
            return work(*self);
        },
        owner_);
}

void MigrationObject::SetState(sdbus::Result<>&& result, std::string state) {
    serve("SetState", std::move(result), [state = std::move(state)](MigrationObject& self) {
        self.set_state(state);
        return std::tuple<>{};
    });
}

void MigrationObject::TakeStream(sdbus::Result<sdbus::UnixFd>&& result) {
    serve("TakeStream", std::move(result),
          [](MigrationObject& self) { return std::tuple{self.take_stream()}; });
}

void MigrationObject::GetReport(sdbus::Result<std::string>&& result) {
    serve("GetReport", std::move(result), [](MigrationObject& self) {
        if (!self.device_->report())
            throw CallError{"NoReport", "no stream was judged yet: that is done in RESUMING to STOP"};
        return std::tuple{render_json(*self.device_->report())};
    });
}

void MigrationObject::Reset(sdbus::Result<>&& result) {
    serve("Reset", std::move(result), [](MigrationObject& self) {
        self.close_stream();
        self.device_->reset();
        self.tell_changes();
        return std::tuple<>{};
    });
}

void MigrationObject::Close(sdbus::Result<>&& result) {
    serve("Close", std::move(result), [](MigrationObject& self) {
        self.close_stream();
        self.close_();
        return std::tuple<>{};
    });
}

std::string MigrationObject::State() {
    return std::string{to_text(device_->state())};
}
std::string MigrationObject::Mdev() {
    return device_->options().mdev.to_string();
}
std::string MigrationObject::Role() {
    return std::string{to_text(device_->options().role)};
}
std::string MigrationObject::Layout() {
    const auto layout = device_->layout();
    return layout ? std::string{to_text(*layout)} : std::string{};
}
std::uint64_t MigrationObject::BytesTransferred() {
    return device_->bytes_transferred();
}

void MigrationObject::set_state(const std::string& word) {
    const auto wanted = parse_device_state(word);
    if (!wanted) throw InputError{word.substr(0, 100), "expected RUNNING, STOP, STOP_COPY or RESUMING"};
    // All that was written before this call is there to be read.
    if (device_->state() == DeviceState::resuming) pump();
    const auto before = device_->state();
    const auto outcome = device_->request(*wanted);
    if (device_->state() != before) close_stream();
    tell_changes();
    if (outcome) return;
    const auto name = outcome.error == EOPNOTSUPP                                ? "WrongRole"
                      : !device_path(before, *wanted, device_->options().states) ? "NoSuchTransition"
                      : device_->report() && device_->report()->verdict != Verdict::compatible
                          ? "Incompatible"
                          : "TransitionFailed";
    throw CallError{name, fmt::format("{} ({})", outcome.reason, errno_name(outcome.error))};
}

sdbus::UnixFd MigrationObject::take_stream() {
    const bool gives = device_->options().role == Role::source;
    if (gives) {
        saving_ = device_->take_save_stream();
    } else {
        resuming_ = device_->take_resume_stream();
    }
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw SystemError{"create", "pipe", errno};
    sdbus::UnixFd theirs{ends[gives ? 0 : 1], sdbus::adopt_fd};
    fd_ = ends[gives ? 1 : 0];
    begin_ = end_ = 0;
    if (::fcntl(fd_, F_SETFL, O_NONBLOCK) != 0) throw SystemError{"prepare", "pipe", errno};
    return theirs;
}

short MigrationObject::events() const {
    return device_->options().role == Role::source ? POLLOUT : POLLIN;
}

void MigrationObject::pump() {
    if (fd_ < 0) return;
    if (device_->options().role == Role::source) {
        give();
    } else {
        take();
    }
    if (Layout() != told_layout_) tell_changes();
}

void MigrationObject::give() {
    while (fd_ >= 0) {
        if (begin_ == end_) {
            const auto got = saving_->read(buffer_);
            if (got.error == ENOMSG) return;
            if (got.bytes == 0) {
                close_stream();
                return;
            }
            begin_ = 0;
            end_ = got.bytes;
        }
        const auto written = ::write(fd_, &buffer_[begin_], end_ - begin_);
        if (written < 0) {
            // EPIPE: the reader has gone; nothing is lost but to him.
            if (errno != EAGAIN && errno != EINTR) close_stream();
            return;
        }
        begin_ += static_cast<std::size_t>(written);
    }
}

void MigrationObject::take() {
    while (fd_ >= 0) {
        const auto got = ::read(fd_, buffer_.data(), buffer_.size());
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        // At the end, or where a byte is refused, the writer finds the pipe closed.
        if (got <= 0 || resuming_->write(std::span{buffer_}.first(static_cast<std::size_t>(got))).error != 0)
            close_stream();
    }
}

void MigrationObject::close_stream() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    saving_.reset();
    resuming_.reset();
}

void MigrationObject::tell_changes() {
    std::vector<std::string> changed;
    if (std::exchange(told_state_, State()) != told_state_) changed.emplace_back("State");
    if (std::exchange(told_layout_, Layout()) != told_layout_) changed.emplace_back("Layout");
    if (!changed.empty()) bus::emit_changed(getObject(), Migration_adaptor::INTERFACE_NAME, changed);
}

}  // namespace vfioap
