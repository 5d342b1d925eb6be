// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host_change.h"

#include "ap/error.h"
#include "compat/rules.h"
#include "host/guest_matrix.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include <fmt/format.h>

namespace vfioap {
namespace {

/// So many queues or records are named in a sentence, the rest is counted.
constexpr std::size_t most_named = 4;

/// `05-08, 0a`, with the digits that adapters or domains have; `none`.
std::string ranges(const Mask& mask, std::string (*text)(unsigned)) {
    std::string result;
    for (unsigned first = 0; first < ap_devices; ++first) {
        if (!mask.test(first)) continue;
        unsigned last = first;
        while (mask.test(last + 1))
            ++last;
        if (!result.empty()) result += ", ";
        result += text(first);
        if (last != first) result += '-' + text(last);
        first = last;
    }
    return result.empty() ? "none" : result;
}

std::string names(const std::vector<Apqn>& queues) {
    std::string result;
    for (std::size_t i = 0; i < std::min(queues.size(), most_named); ++i)
        result += (i == 0 ? "" : ", ") + queues[i].to_string();
    if (queues.size() > most_named) result += fmt::format(" and {} more", queues.size() - most_named);
    return result;
}

std::string queues_named(const std::vector<Apqn>& queues) {
    return (queues.size() == 1 ? "queue " : "queues ") + names(queues);
}

std::string mask_text(const HostMask& mask, std::string (*text)(unsigned)) {
    switch (mask.state) {
        case HostMask::State::absent:
            return "not there";
        case HostMask::State::not_supported:
            return "not supported";
        case HostMask::State::value:
            break;
    }
    return ranges(mask.mask, text);
}

std::string words(const std::optional<std::vector<std::string>>& features) {
    if (!features) return "not there";
    std::string result;
    for (const auto& word : *features)
        result += (result.empty() ? "" : " ") + word;
    return result.empty() ? "none" : result;
}

/// What a flag says of a card or queue.
std::string_view word(std::optional<bool> value, std::string_view yes, std::string_view no) {
    if (!value) return "unknown";
    return *value ? yes : no;
}

struct Flag {
    std::optional<bool> Card::*card;
    std::optional<bool> Queue::*queue;
    std::string_view yes;
    std::string_view no;
    bool bad;  ///< the value that stops a guest's requests
    std::optional<RuleId> rule;
};
constexpr std::array<Flag, 2> device_flags{
    {{&Card::config, &Queue::config, "configured", "deconfigured", false, RuleId::queue_deconfigured},
     {&Card::chkstop, &Queue::chkstop, "in checkstop", "not in checkstop", true,
      RuleId::queue_checkstopped}}};

class Comparison {
  public:
    Comparison(const Inventory& before, const Inventory& after) : before_{before}, after_{after} {}

    std::vector<Change> run() {
        compare_records();
        compare_driver();
        compare_masks();
        compare_cards();
        compare_queues();
        compare_mdevs();
        std::stable_sort(changes_.begin(), changes_.end(), [](const Change& a, const Change& b) {
            return std::tie(a.kind, a.mdevs, a.queues) < std::tie(b.kind, b.mdevs, b.queues);
        });
        return std::move(changes_);
    }

  private:
    Change& add(ChangeKind kind, std::vector<Uuid> mdevs, std::string detail,
                std::optional<RuleId> rule_id = {}) {
        Change change;
        change.kind = kind;
        if (rule_id) {
            change.rule = rule(*rule_id).name;
        } else if (!mdevs.empty()) {
            change.rule = rule(RuleId::config_changed).name;
        }
        change.mdevs = std::move(mdevs);
        change.detail = std::move(detail);
        return changes_.emplace_back(std::move(change));
    }

    /// Those of the mdevs, as they are and as they were, that please `touched`.
    template <typename Touched>
    std::vector<Uuid> mdevs_that(Touched touched) const {
        std::vector<Uuid> result;
        for (const auto* const host : {&before_, &after_}) {
            for (const auto& mdev : host->mdevs) {
                if (touched(mdev)) result.push_back(mdev.uuid);
            }
        }
        std::sort(result.begin(), result.end());
        result.erase(std::unique(result.begin(), result.end()), result.end());
        return result;
    }

    static bool holds(const Mdev& mdev) { return !mdev.adapters.none() && !mdev.domains.none(); }

    void compare_records() {
        std::vector<const Unreadable*> added;
        for (const auto& item : after_.unreadable) {
            const auto* const known = before_.find_unreadable(item.path);
            if (item.error != ENOENT && known == nullptr) added.push_back(&item);
        }
        if (added.empty()) return;
        std::string detail;
        for (std::size_t i = 0; i < std::min(added.size(), most_named); ++i)
            detail += (i == 0 ? "" : ", ") + added[i]->path;
        if (added.size() > most_named) detail += fmt::format(" and {} more", added.size() - most_named);
        const auto& first = *added.front();
        if (const auto why = first.error != 0 ? errno_text(first.error) : first.detail; !why.empty())
            detail += ": " + why;
        add(ChangeKind::unreadable, {}, "readable → not any more: " + detail, RuleId::host_unreadable);
    }

    void compare_driver() {
        const auto all = [](const Mdev&) { return true; };
        if (before_.ap.has_value() != after_.ap.has_value()) {
            add(ChangeKind::driver, mdevs_that(all),
                after_.ap ? "AP bus: not there → there" : "AP bus: there → gone",
                after_.ap ? std::nullopt : std::optional{RuleId::kernel_no_vfio_ap});
        }
        if (before_.vfio_ap.has_value() != after_.vfio_ap.has_value()) {
            add(ChangeKind::driver, mdevs_that(all),
                after_.vfio_ap ? "driver vfio_ap: not loaded → loaded"
                               : "driver vfio_ap: loaded → not loaded",
                after_.vfio_ap ? std::nullopt : std::optional{RuleId::kernel_no_vfio_ap});
        }
        if (before_.vfio_ap && after_.vfio_ap) {
            if (before_.vfio_ap->features != after_.vfio_ap->features) {
                const bool lost =
                    before_.has_feature(feature_migratable) && !after_.has_feature(feature_migratable);
                add(ChangeKind::features, mdevs_that(all),
                    fmt::format("features of vfio_ap: {} → {}", words(before_.vfio_ap->features),
                                words(after_.vfio_ap->features)),
                    lost ? std::optional{RuleId::kernel_no_migration} : std::nullopt);
            }
            const auto number = [](const std::optional<unsigned>& value) {
                return value ? std::to_string(*value) : std::string{"unknown"};
            };
            if (before_.vfio_ap->available_instances != after_.vfio_ap->available_instances) {
                add(ChangeKind::available, {},
                    fmt::format("mdevs that can still be created: {} → {}",
                                number(before_.vfio_ap->available_instances),
                                number(after_.vfio_ap->available_instances)));
            }
        }
        if (before_.ap && after_.ap && before_.ap->features != after_.ap->features) {
            add(ChangeKind::features, mdevs_that(all),
                fmt::format("features of the AP bus: {} → {}", words(before_.ap->features),
                            words(after_.ap->features)));
        }
    }

    void compare_masks() {
        if (!before_.ap || !after_.ap) return;
        const auto reserved = [&](const char* name, const std::optional<Mask>& was,
                                  const std::optional<Mask>& is, Mask Mdev::*assigned,
                                  std::string (*text)(unsigned)) {
            if (was == is) return;
            const auto both = [](const std::optional<Mask>& mask) { return mask.value_or(Mask::all()); };
            const auto different = (both(was) - both(is)) | (both(is) - both(was));
            add(ChangeKind::masks, mdevs_that([&](const Mdev& mdev) {
                    return holds(mdev) && !(mdev.*assigned & different).none();
                }),
                fmt::format("{}, reserved for the host: {} → {}", name, was ? ranges(*was, text) : "unknown",
                            is ? ranges(*is, text) : "unknown"));
        };
        reserved("apmask", before_.ap->apmask, after_.ap->apmask, &Mdev::adapters, adapter_text);
        reserved("aqmask", before_.ap->aqmask, after_.ap->aqmask, &Mdev::domains, domain_text);

        const auto given = [&](const char* name, const HostMask& was, const HostMask& is, auto assigned,
                               std::string (*text)(unsigned), std::optional<RuleId> lost) {
            if (was == is) return;
            const auto gone = was.effective() - is.effective();
            const auto different = gone | (is.effective() - was.effective());
            bool misses = false;
            auto mdevs = mdevs_that([&](const Mdev& mdev) {
                misses = misses || !(assigned(mdev) & gone).none();
                return !(assigned(mdev) & different).none();
            });
            auto& change = add(ChangeKind::host_masks, std::move(mdevs),
                               fmt::format("{}: {} → {}", name, mask_text(was, text), mask_text(is, text)),
                               misses ? lost : std::nullopt);
            if (lost == RuleId::control_domain_missing) change.domains = different;
        };
        given(
            "ap_adapter_mask", before_.ap->ap_adapter_mask, after_.ap->ap_adapter_mask,
            [](const Mdev& mdev) { return mdev.adapters; }, adapter_text, RuleId::queue_missing);
        given(
            "ap_usage_domain_mask", before_.ap->ap_usage_domain_mask, after_.ap->ap_usage_domain_mask,
            [](const Mdev& mdev) { return mdev.domains; }, domain_text, RuleId::queue_missing);
        given(
            "ap_control_domain_mask", before_.ap->ap_control_domain_mask, after_.ap->ap_control_domain_mask,
            [](const Mdev& mdev) { return mdev.control_domains.value_or(Mask{}); }, domain_text,
            RuleId::control_domain_missing);
    }

    void compare_cards() {
        const auto with = [&](unsigned apid) {
            return mdevs_that([apid](const Mdev& mdev) { return holds(mdev) && mdev.adapters.test(apid); });
        };
        for (unsigned apid = 0; apid < ap_devices; ++apid) {
            const auto* const was = before_.find_card(apid);
            const auto* const is = after_.find_card(apid);
            if (was == nullptr && is == nullptr) continue;
            const auto name = "card " + adapter_text(apid);
            if (was == nullptr || is == nullptr) {
                add(ChangeKind::card, with(apid),
                    name + (is != nullptr ? ": not there → there" : ": there → gone"),
                    is != nullptr ? std::nullopt : std::optional{RuleId::queue_missing});
                continue;
            }
            if (hardware(*was) != hardware(*is)) {
                add(ChangeKind::card, with(apid),
                    fmt::format("{}: {} → {}", name, hardware(*was), hardware(*is)));
            }
            for (const auto& flag : device_flags) {
                if (was->*flag.card == is->*flag.card) continue;
                const bool bad = is->*flag.card == flag.bad;
                auto& change = add(ChangeKind::card_state, with(apid),
                                   fmt::format("{}: {} → {}", name, word(was->*flag.card, flag.yes, flag.no),
                                               word(is->*flag.card, flag.yes, flag.no)),
                                   bad ? flag.rule : std::nullopt);
                change.queues = assigned_queues(apid);
            }
            if (was->online != is->online) {
                // Only the host's own drivers have it: what vfio_ap passes on does not depend on it.
                add(ChangeKind::card_state, {},
                    fmt::format("{}: {} → {}", name, word(was->online, "online", "offline"),
                                word(is->online, "online", "offline")));
            }
        }
    }

    static std::string hardware(const Card& card) {
        const auto number = [](const std::optional<unsigned>& value) {
            return value ? std::to_string(*value) : std::string{"?"};
        };
        return fmt::format("type {}, raw type {}, functions {}", number(card.hwtype), number(card.raw_hwtype),
                           card.ap_functions ? fmt::format("0x{:08X}", *card.ap_functions) : "?");
    }

    [[nodiscard]] std::vector<Apqn> assigned_queues(unsigned apid) const {
        std::vector<Apqn> result;
        const auto first = std::lower_bound(after_.queues.begin(), after_.queues.end(),
                                            Apqn{static_cast<std::uint8_t>(apid), 0},
                                            [](const Queue& queue, Apqn apqn) { return queue.apqn < apqn; });
        for (auto queue = first; queue != after_.queues.end() && queue->apqn.apid() == apid; ++queue) {
            if (mdev_of(queue->apqn) != nullptr) result.push_back(queue->apqn);
        }
        return result;
    }

    [[nodiscard]] const Mdev* mdev_of(Apqn apqn) const {
        for (const auto* const host : {&after_, &before_}) {
            for (const auto& mdev : host->mdevs) {
                if (mdev.assigned(apqn)) return &mdev;
            }
        }
        return nullptr;
    }

    /// What happened to queues alike, for each mdev apart; null: those of no mdev.
    using Group = std::tuple<ChangeKind, const Mdev*, std::string, std::string, std::optional<RuleId>>;

    void compare_queues() {
        std::map<Group, std::vector<Apqn>> groups;
        const auto note = [&](ChangeKind kind, Apqn apqn, std::string_view was, std::string_view is,
                              std::optional<RuleId> rule_id) {
            groups[Group{kind, mdev_of(apqn), was, is, rule_id}].push_back(apqn);
        };
        auto was = before_.queues.begin();
        auto is = after_.queues.begin();
        while (was != before_.queues.end() || is != after_.queues.end()) {
            if (is == after_.queues.end() || (was != before_.queues.end() && was->apqn < is->apqn)) {
                note(ChangeKind::queue, was->apqn, "there", "gone", RuleId::queue_missing);
                ++was;
            } else if (was == before_.queues.end() || is->apqn < was->apqn) {
                note(ChangeKind::queue, is->apqn, "not there", "there", std::nullopt);
                ++is;
            } else {
                if (was->driver != is->driver) {
                    const auto driver = [](const Queue& queue) {
                        return queue.driver.empty() ? std::string{"bound to no driver"}
                                                    : "bound to " + queue.driver;
                    };
                    note(ChangeKind::binding, is->apqn, driver(*was), driver(*is),
                         was->bound_to_vfio_ap() ? std::optional{RuleId::queue_not_bound} : std::nullopt);
                }
                for (const auto& flag : device_flags) {
                    if ((*was).*flag.queue == (*is).*flag.queue || card_did(*was, *is, flag)) continue;
                    const bool bad = (*is).*flag.queue == flag.bad;
                    note(ChangeKind::queue_state, is->apqn, word((*was).*flag.queue, flag.yes, flag.no),
                         word((*is).*flag.queue, flag.yes, flag.no), bad ? flag.rule : std::nullopt);
                }
                ++was;
                ++is;
            }
        }
        bool bound = false;
        for (auto& [group, queues] : groups) {
            const auto& [kind, mdev, from, to, rule_id] = group;
            bound = bound || kind == ChangeKind::binding || kind == ChangeKind::queue;
            add(kind, mdev != nullptr ? std::vector{mdev->uuid} : std::vector<Uuid>{},
                fmt::format("{}: {} → {}", queues_named(queues), from, to), rule_id)
                .queues = std::move(queues);
        }
        // The count of bound queues goes with them; alone it is worth a word.
        if (bound || !before_.ap || !after_.ap || before_.ap->bindings == after_.ap->bindings) return;
        add(ChangeKind::binding, {},
            fmt::format("queues that have a driver: {} → {}", before_.ap->bindings.value_or("unknown"),
                        after_.ap->bindings.value_or("unknown")));
    }

    /// The card changed in the same way, and its change names the queues.
    [[nodiscard]] bool card_did(const Queue& was, const Queue& is, const Flag& flag) const {
        const auto* const card_was = before_.find_card(was.apqn.apid());
        const auto* const card_is = after_.find_card(is.apqn.apid());
        return card_was != nullptr && card_is != nullptr && card_was->*flag.card != card_is->*flag.card &&
               card_was->*flag.card == was.*flag.queue && card_is->*flag.card == is.*flag.queue;
    }

    void compare_mdevs() {
        for (const auto& was : before_.mdevs) {
            const auto* const is = after_.find_mdev(was.uuid);
            if (is != nullptr) {
                compare_mdev(was, *is);
                continue;
            }
            auto& change = add(ChangeKind::mdev_removed, {was.uuid},
                               "mdev " + was.uuid.to_string() + ": there → gone", RuleId::mdev_missing);
            change.queues = was.matrix();
            change.domains = was.control_domains.value_or(Mask{});
        }
        for (const auto& is : after_.mdevs) {
            if (before_.find_mdev(is.uuid) != nullptr) continue;
            auto& change = add(ChangeKind::mdev_added, {is.uuid},
                               "mdev " + is.uuid.to_string() + ": not there → there, with adapters " +
                                   ranges(is.adapters, adapter_text) + " and domains " +
                                   ranges(is.domains, domain_text));
            change.queues = is.matrix();
            change.domains = is.control_domains.value_or(Mask{});
        }
    }

    void compare_mdev(const Mdev& was, const Mdev& is) {
        const auto name = "mdev " + is.uuid.to_string() + ", ";
        if (was.adapters != is.adapters || was.domains != is.domains) {
            std::string detail;
            if (was.adapters != is.adapters) {
                detail = fmt::format("adapters assigned: {} → {}", ranges(was.adapters, adapter_text),
                                     ranges(is.adapters, adapter_text));
            }
            if (was.domains != is.domains) {
                detail += fmt::format("{}domains assigned: {} → {}", detail.empty() ? "" : "; ",
                                      ranges(was.domains, domain_text), ranges(is.domains, domain_text));
            }
            add(ChangeKind::matrix, {is.uuid}, name + detail).queues = different(was.matrix(), is.matrix());
        }
        if (was.control_domains != is.control_domains) {
            const auto before = was.control_domains.value_or(Mask{});
            const auto after = is.control_domains.value_or(Mask{});
            add(ChangeKind::control_domains, {is.uuid},
                fmt::format("{}control domains assigned: {} → {}", name, ranges(before, domain_text),
                            ranges(after, domain_text)))
                .domains = (before - after) | (after - before);
        }
        if (was.migratable != is.migratable) {
            add(ChangeKind::features, {is.uuid},
                fmt::format("{}migratable: {} → {}", name, word(was.migratable, "1", "0"),
                            word(is.migratable, "1", "0")),
                is.migratable == false ? std::optional{RuleId::mdev_not_migratable} : std::nullopt);
        }
        compare_guest(was, is, name);
    }

    void compare_guest(const Mdev& was, const Mdev& is, const std::string& name) {
        const auto before = guest_matrix_of(before_, was);
        const auto after = guest_matrix_of(after_, is);
        if (before.queues == after.queues && before.control_domains == after.control_domains) return;
        std::string detail;
        std::optional<RuleId> rule_id;
        if (before.queues != after.queues) {
            const auto lost = only_in(before.queues, after.queues);
            const auto won = only_in(after.queues, before.queues);
            detail = fmt::format("queues of the guest: {} → {}", before.queues.size(), after.queues.size());
            if (!lost.empty()) detail += ", without " + names(lost);
            if (!won.empty()) detail += (lost.empty() ? ", with " : " and with ") + names(won);
            for (const auto& adapter : after.filtered) {
                const bool here = std::any_of(lost.begin(), lost.end(), [&](Apqn apqn) {
                    return apqn.apid() == adapter.apid && is.assigned(apqn);
                });
                if (!here) continue;
                if (!rule_id)
                    detail += fmt::format(" (adapter {}: {})", adapter_text(adapter.apid), to_text(adapter));
                rule_id = RuleId::config_filtered;
            }
        }
        if (before.control_domains != after.control_domains) {
            detail += fmt::format("{}control domains of the guest: {} → {}", detail.empty() ? "" : "; ",
                                  ranges(before.control_domains, domain_text),
                                  ranges(after.control_domains, domain_text));
        }
        auto& change = add(ChangeKind::guest_matrix, {is.uuid}, name + detail, rule_id);
        change.queues = different(before.queues, after.queues);
        change.domains = (before.control_domains - after.control_domains) |
                         (after.control_domains - before.control_domains);
    }

    static std::vector<Apqn> only_in(const std::vector<Apqn>& a, const std::vector<Apqn>& b) {
        std::vector<Apqn> result;
        std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(result));
        return result;
    }
    static std::vector<Apqn> different(const std::vector<Apqn>& a, const std::vector<Apqn>& b) {
        std::vector<Apqn> result;
        std::set_symmetric_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(result));
        return result;
    }

    const Inventory& before_;
    const Inventory& after_;
    std::vector<Change> changes_;
};

}  // namespace

std::string_view to_text(ChangeKind kind) {
    constexpr std::array<std::string_view, 17> texts{
        "unreadable", "readable",     "driver",     "features",        "masks",       "host-masks",
        "available",  "card",         "card-state", "queue",           "queue-state", "binding",
        "mdev-added", "mdev-removed", "matrix",     "control-domains", "guest-matrix"};
    return texts.at(static_cast<std::size_t>(kind));
}

std::vector<Change> changes_between(const Inventory& before, const Inventory& after) {
    return Comparison{before, after}.run();
}

}  // namespace vfioap
