// SPDX-License-Identifier: LGPL-2.1-or-later
#include "explain/attempt.h"

#include <algorithm>
#include <cstring>

namespace vfioap {

void QueueSet::insert(Apqn queue) {
    if (!bits_) {
        bits_ = std::make_shared<std::bitset<ap_queues>>();
    } else if (bits_.use_count() > 1) {
        bits_ = std::make_shared<std::bitset<ap_queues>>(*bits_);
    }
    bits_->set(static_cast<std::size_t>(queue.apid()) << 8U | queue.apqi());
}

bool QueueSet::contains(Apqn queue) const {
    return bits_ && bits_->test(static_cast<std::size_t>(queue.apid()) << 8U | queue.apqi());
}

std::vector<Apqn> QueueSet::sorted() const {
    std::vector<Apqn> queues;
    if (!bits_) return queues;
    for (std::size_t i = 0; i < bits_->size(); ++i)
        if (bits_->test(i)) queues.push_back(Apqn::from_number(static_cast<std::uint16_t>(i)));
    return queues;
}

void QueueSet::merge(const QueueSet& other) {
    if (!other.bits_) return;
    bits_ = bits_ ? std::make_shared<std::bitset<ap_queues>>(*bits_ | *other.bits_) : other.bits_;
}

namespace {

void merge_evidence(std::vector<Evidence>& list, const std::vector<Evidence>& other) {
    for (const auto& evidence : other)
        if (list.size() < Explainer::most_evidence) list.push_back(evidence);
}

}  // namespace

void Attempt::merge(const Attempt& other) {
    if (guest.empty()) guest = other.guest;
    if (!mdev) mdev = other.mdev;
    if (source_host.empty()) source_host = other.source_host;
    if (destination_host.empty()) destination_host = other.destination_host;
    if (!first) first = other.first;
    if (!last) last = other.last;
    started = started || other.started;
    failed = failed || other.failed;
    refused = refused || other.refused;
    completed = completed || other.completed;
    kernel_seen = kernel_seen || other.kernel_seen;
    by_hook = by_hook || other.by_hook;
    if (error == 0) error = other.error;
    about_vfio_ap = about_vfio_ap || other.about_vfio_ap;
    if (other_device.empty()) other_device = other.other_device;
    for (const auto& key : other.order) {
        const auto& theirs = other.drafts.at(key);
        const auto found = drafts.find(key);
        if (found == drafts.end()) {
            if (drafts.size() >= most_drafts) continue;
            drafts.emplace(key, theirs);
            order.push_back(key);
            continue;
        }
        auto& ours = found->second;
        ours.queues.merge(theirs.queues);
        ours.has_queues = ours.has_queues || theirs.has_queues;
        ours.domains.insert(theirs.domains.begin(), theirs.domains.end());
        merge_evidence(ours.evidence, theirs.evidence);
        if (ours.remedies.empty()) ours.remedies = theirs.remedies;
    }
    headlines.merge(other.headlines);
    has_headlines = has_headlines || other.has_headlines;
    merge_evidence(headline_evidence, other.headline_evidence);
    merge_evidence(evidence, other.evidence);
    logs.insert(other.logs.begin(), other.logs.end());
    profile_clashes =
        profile_clashes || other.profile_clashes ||
        (profile != Profile::automatic && other.profile != Profile::automatic && profile != other.profile);
    if (profile == Profile::automatic) profile = other.profile;
}

int errno_of(std::string_view text) {
    if (text.empty()) return 0;
    constexpr int most = 133;
    for (int number = 1; number <= most; ++number) {
        const char* const description = strerrordesc_np(number);
        if (description != nullptr && text == description) return number;
    }
    return 0;
}

}  // namespace vfioap
