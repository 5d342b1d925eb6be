// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stream/device.h"

#include "ap/error.h"
#include "stream/reader.h"
#include "stream/verify.h"
#include "stream/writer.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

namespace vfioap {

struct SaveTransfer {
    mutable std::mutex mutex;
    std::vector<std::uint8_t> bytes;
    std::size_t position = 0;
    bool filled = false;  // STOP_COPY was reached
    bool taken = false;
    bool ended = false;
};

struct ResumeTransfer {
    explicit ResumeTransfer(std::optional<Layout> layout) : reader{layout} {}
    mutable std::mutex mutex;
    StreamReader reader;
    bool taken = false;
    bool ended = false;
};

std::string_view to_text(Role role) {
    return role == Role::source ? "source" : "destination";
}

std::optional<Role> parse_role(std::string_view text) {
    if (text == "source") return Role::source;
    if (text == "destination") return Role::destination;
    return {};
}

Transferred SaveStream::read(std::span<std::uint8_t> out, std::optional<std::uint64_t> position) {
    if (position) return {0, ESPIPE};
    const std::lock_guard lock{transfer_->mutex};
    if (transfer_->ended) return {0, ENODEV};
    if (!transfer_->filled) return {0, ENOMSG};
    const auto count = std::min(out.size(), transfer_->bytes.size() - transfer_->position);
    std::copy_n(transfer_->bytes.begin() + static_cast<std::ptrdiff_t>(transfer_->position), count,
                out.begin());
    transfer_->position += count;
    return {count, 0};
}

Transferred ResumeStream::write(std::span<const std::uint8_t> bytes, std::optional<std::uint64_t> position) {
    if (position) return {0, ESPIPE};
    const std::unique_lock lock{transfer_->mutex, std::try_to_lock};
    if (!lock) return {0, EBUSY};
    if (transfer_->ended) return {0, ENODEV};
    if (transfer_->reader.feed(bytes)) return {bytes.size(), 0};
    return {0, transfer_->reader.past_end() ? EIO : EINVAL};
}

MigrationDevice::MigrationDevice(Options options, Side side)
    : options_{std::move(options)}, side_{std::move(side)} {}

MigrationDevice::~MigrationDevice() {
    end_transfer();
}

Outcome MigrationDevice::request(DeviceState wanted) {
    const auto path = device_path(state_, wanted, options_.states);
    if (!path) {
        return {EINVAL, fmt::format("mdev {}: no way leads from {} to {}", options_.mdev.to_string(),
                                    to_text(state_), to_text(wanted))};
    }
    const bool foreign = options_.role == Role::source ? wanted == DeviceState::resuming : is_saving(wanted);
    if (foreign) {
        return {EOPNOTSUPP, fmt::format("mdev {}: {} is not for the {}", options_.mdev.to_string(),
                                        to_text(wanted), to_text(options_.role))};
    }
    for (const auto next : *path) {
        if (auto outcome = go(next); !outcome) return outcome;
    }
    return {};
}

/// One arc.
Outcome MigrationDevice::go(DeviceState next) {
    Outcome outcome;
    if (next == DeviceState::stop_copy) {
        outcome = save();
    } else if (is_saving(next) && !is_saving(state_)) {
        saving_ = std::make_shared<SaveTransfer>();
    } else if (next == DeviceState::resuming) {
        outcome = resume();
    } else if (state_ == DeviceState::resuming) {
        outcome = judge();
        end_transfer();
        if (!outcome) state_ = DeviceState::error;
    } else if (!is_saving(next)) {
        end_transfer();
    }
    if (outcome) state_ = next;
    return outcome;
}

/// → STOP_COPY: everything is read here, and never again.
Outcome MigrationDevice::save() {
    std::vector<std::uint8_t> bytes;
    try {
        bytes = write_stream(side_.configuration(), options_.layout.value_or(Layout::l3));
    } catch (const SystemError& error) {
        return {error.number(), error.what()};
    } catch (const Error& error) {
        return {EIO, error.what()};
    }
    if (state_ == DeviceState::stop) saving_ = std::make_shared<SaveTransfer>();
    const std::lock_guard lock{saving_->mutex};
    saving_->bytes = std::move(bytes);
    saving_->filled = true;
    return {};
}

Outcome MigrationDevice::resume() {
    resuming_ = std::make_shared<ResumeTransfer>(options_.layout);
    report_.reset();
    restored_.reset();
    return {};
}

/// RESUMING → STOP.
Outcome MigrationDevice::judge() {
    const std::lock_guard lock{resuming_->mutex};
    auto& reader = resuming_->reader;
    if (!reader.finish()) {
        return {reader.past_end() ? EIO : EINVAL,
                fmt::format("mdev {}: migration stream: {}", options_.mdev.to_string(),
                            to_text(*reader.fault()))};
    }
    const auto source = describe_stream(reader, {"source", "stream:"});
    const auto queues = apqns_of(source.configuration);
    try {
        report_ = check(guest_with(options_.mdev), source, *side_.inventory(options_.mdev, queues),
                        {Mode::native, options_.profile, false, options_.incoming});
        if (const int error = driver_errno(*report_); error != 0) {
            // The driver's own reason, else the first.
            const auto& predicted = report_->prediction.findings;
            return {error, report_->findings[predicted.empty() ? 0 : predicted.front()].message};
        }
        if (!options_.layout) {
            // One that was asked for is somebody's decision.
            const auto wrong =
                std::find_if(report_->findings.begin(), report_->findings.end(), [](const Finding& finding) {
                    return finding.rule == RuleId::kernel_layout && finding.severity != Severity::info;
                });
            if (wrong != report_->findings.end()) return {EINVAL, wrong->message};
        }
        if (report_->profile != Profile::restore) return {};
        restored_ = restored_contents(reader);
        if (side_.restore) side_.restore(options_.mdev, *restored_, queues);
    } catch (const SystemError& error) {
        return {error.number(), error.what()};
    } catch (const Error& error) {
        return {EIO, error.what()};
    }
    return {};
}

void MigrationDevice::reset() {
    end_transfer();
    state_ = DeviceState::running;
}

/// Streams that are still held give ENODEV from now on, and hold no data.
void MigrationDevice::end_transfer() {
    if (saving_) {
        const std::lock_guard lock{saving_->mutex};
        saving_->ended = true;
        saving_->bytes = {};
    }
    if (resuming_) {
        const std::lock_guard lock{resuming_->mutex};
        resuming_->ended = true;
    }
}

template <typename Stream, typename Transfer>
Stream MigrationDevice::take(const std::shared_ptr<Transfer>& transfer, bool open) {
    const auto refuse = [this](int error) {
        throw SystemError{"take the stream", "mdev " + options_.mdev.to_string(), error};
    };
    if (!transfer || !open) refuse(ENODEV);
    const std::lock_guard lock{transfer->mutex};
    if (std::exchange(transfer->taken, true)) refuse(EBUSY);
    return Stream{transfer};
}

SaveStream MigrationDevice::take_save_stream() {
    return take<SaveStream>(saving_, is_saving(state_));
}

ResumeStream MigrationDevice::take_resume_stream() {
    return take<ResumeStream>(resuming_, state_ == DeviceState::resuming);
}

std::uint64_t MigrationDevice::bytes_transferred() const {
    if (options_.role == Role::source) {
        if (!saving_) return 0;
        const std::lock_guard lock{saving_->mutex};
        return saving_->position;
    }
    if (!resuming_) return 0;
    const std::lock_guard lock{resuming_->mutex};
    return resuming_->reader.size();
}

std::optional<Layout> MigrationDevice::layout() const {
    if (options_.role == Role::source) return options_.layout.value_or(Layout::l3);
    if (!resuming_) return options_.layout;
    const std::lock_guard lock{resuming_->mutex};
    if (resuming_->reader.confidence() == Confidence::possible) return options_.layout;
    return resuming_->reader.layout();
}

std::shared_ptr<MigrationDevice> MigrationDevices::open(MigrationDevice::Options options,
                                                        MigrationDevice::Side side) {
    const std::lock_guard lock{mutex_};
    std::erase_if(open_, [](const auto& entry) { return entry.second.expired(); });
    auto& slot = open_.try_emplace(options.mdev).first->second;
    if (!slot.expired()) throw SystemError{"open a migration of", "mdev " + options.mdev.to_string(), EBUSY};
    auto device = std::make_shared<MigrationDevice>(std::move(options), std::move(side));
    slot = device;
    return device;
}

}  // namespace vfioap
