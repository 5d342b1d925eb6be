// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ap/queue_list.h"
#include "plan/render.h"
#include "text/safe.h"

#include <array>
#include <functional>
#include <set>

#include <fmt/format.h>

namespace vfioap {
namespace {

/// Fit for a comment, or for single quotes: one line, without quotes.
std::string plain(std::string_view text) {
    auto clean = safe(text);
    for (auto& c : clean) {
        if (c == '\'') c = '"';
    }
    return clean;
}

std::string shell_quoted(std::string_view text) {
    return '\'' + plain(text) + '\'';
}

constexpr std::string_view script_head = R"sh(set -eu

# The sysfs root; whether it is kept for the next boot, by chzdev, driverctl and mdevctl (yes or no); and for how
# many seconds the bus may look for drivers.
SYSFS=${SYSFS_ROOT:-/sys}
if [ "$SYSFS" = /sys ]; then KEEP=${KEEP:-yes}; else KEEP=${KEEP:-no}; fi
WAIT=${WAIT:-60}
)sh";

/// A function of the script, which is only there where it, or one that needs it, is called.
struct Function {
    std::string_view name;
    std::string_view needs;
    std::string_view text;
};

constexpr std::array functions{
    Function{"keep", "", R"sh(
# keep TOOL COMMAND
keep() {
    [ "$KEEP" = yes ] || return 0
    if command -v "$1" >/dev/null; then
        printf '  %s\n' "$2"
        sh -c "$2"
    else
        printf '  not kept for the next boot, for there is no %s: %s\n' "$1" "$2"
    fi
}
)sh"},
    Function{"load_driver", "", R"sh(
load_driver() {
    [ ! -d "$SYSFS/$matrix" ] || return 0
    echo '  modprobe vfio_ap'
    modprobe vfio_ap
}
)sh"},
    Function{"configure", "", R"sh(
# configure CARD...
configure() {
    for card in "$@"; do
        is "devices/ap/$card/config" 1 || put 1 "devices/ap/$card/config"
    done
}
)sh"},
    Function{"bound", "", R"sh(
# bound QUEUE...
bound() {
    for queue in "$@"; do
        [ -e "$SYSFS/bus/ap/drivers/vfio_ap/$queue" ] || return 1
    done
}
)sh"},
    Function{"free", "bound", R"sh(
# free MASK CHANGE QUEUE...
free() {
    mask=$1
    change=$2
    shift 2
    bound "$@" || put "$change" "bus/ap/$mask"
}
)sh"},
    Function{"probe", "", R"sh(
# probe QUEUE...
probe() {
    for queue in "$@"; do
        [ -e "$SYSFS/devices/ap/card${queue%.*}/$queue/driver" ] || put "$queue" bus/ap/drivers_probe
    done
}
)sh"},
    Function{"override", "bound", R"sh(
# override QUEUE...
override() {
    for name in "$@"; do
        device=devices/ap/card${name%.*}/$name
        if ! bound "$name"; then
            [ ! -e "$SYSFS/$device/driver" ] || put "$name" "$device/driver/unbind"
            is "$device/driver_override" vfio_ap || put vfio_ap "$device/driver_override"
            put "$name" bus/ap/drivers_probe
        fi
    done
}
)sh"},
    Function{"wait_for", "bound", R"sh(
# wait_for QUEUE...
wait_for() {
    waited=0
    until bound "$@" && { [ ! -e "$SYSFS/bus/ap/bindings" ] || grep -q complete "$SYSFS/bus/ap/bindings"; }; do
        if [ "$waited" -ge "$WAIT" ]; then
            bound "$@" || fail "not all queues of the guest are bound to vfio_ap after $WAIT seconds"
            echo '  some queue has no driver yet, but those of the guest have theirs'
            return 0
        fi
        sleep 1
        waited=$((waited + 1))
    done
}
)sh"},
    Function{"create", "", R"sh(
# create MDEV
create() {
    [ ! -d "$SYSFS/$matrix/$1" ] || return 0
    if [ "$KEEP" = yes ] && command -v mdevctl >/dev/null; then
        echo "  mdevctl start --uuid $1 --parent matrix --type vfio_ap-passthrough"
        mdevctl start --uuid "$1" --parent matrix --type vfio_ap-passthrough
    else
        put "$1" "$matrix/mdev_supported_types/vfio_ap-passthrough/create"
    fi
}
)sh"},
    Function{"holds", "", R"sh(
# holds MDEV adapter|domain|control_domain NUMBER
holds() {
    case $2 in
        adapter) grep -qs "^$(printf %02x "$3")\." "$SYSFS/$matrix/$1/matrix" ;;
        domain) grep -qs "\.$(printf %04x "$3")\$" "$SYSFS/$matrix/$1/matrix" ;;
        *) grep -qsx "$(printf %04x "$3")" "$SYSFS/$matrix/$1/control_domains" ;;
    esac
}
)sh"},
    Function{"take", "holds", R"sh(
# take MDEV adapter|domain NUMBER: from an mdev that no guest uses
take() {
    holds "$@" || return 0
    while read -r queue; do
        ! grep -qsx 'in use' "$SYSFS/devices/ap/card${queue%.*}/$queue/status" ||
            fail "mdev $1 is used by a guest now; nothing is taken from it"
    done <"$SYSFS/$matrix/$1/matrix"
    put "$3" "$matrix/$1/unassign_$2"
}
)sh"},
    Function{"unassign", "holds", R"sh(
# unassign MDEV adapter|domain|control_domain NUMBER
unassign() {
    ! holds "$@" || put "$3" "$matrix/$1/unassign_$2"
}
)sh"},
    Function{"assign", "holds", R"sh(
# assign MDEV adapter|domain|control_domain NUMBER
assign() {
    holds "$@" || put "$3" "$matrix/$1/assign_$2"
}
)sh"},
    Function{"set_all", "", R"sh(
# set_all MDEV MASKS
set_all() {
    is "$matrix/$1/ap_config" "$2" || put "$2" "$matrix/$1/ap_config"
}
)sh"},
};

constexpr std::string_view basics = R"sh(
matrix=devices/vfio_ap/matrix

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# put VALUE ATTRIBUTE
put() {
    printf '  %s > %s\n' "$1" "$SYSFS/$2"
    { printf '%s\n' "$1" >"$SYSFS/$2"; } || fail "$2: the kernel refuses $1; nothing more is done"
}

# is ATTRIBUTE TEXT
is() {
    [ -e "$SYSFS/$1" ] && [ "$(cat "$SYSFS/$1")" = "$2" ]
}
)sh";

std::string names_of(const std::vector<Apqn>& queues) {
    std::string text;
    std::size_t column = 0;
    for (const auto apqn : queues) {
        const bool wrap = column + 8 > 100;
        text += wrap ? " \\\n    " : " ";
        column = (wrap ? 4 : column) + 8;
        text += apqn.to_string();
    }
    return text;
}

/// A write to an mdev as a call of a function.
std::string mdev_call(const PlanStep& step, const SysfsWrite& write) {
    const auto leaf = std::string_view{write.path}.substr(write.path.rfind('/') + 1);
    const auto uuid = step.mdev ? step.mdev->to_string() : std::string{};
    if (leaf == "ap_config") return fmt::format("set_all {} {}", uuid, write.value);
    const auto verb = leaf.substr(0, leaf.find('_'));
    return fmt::format("{} {} {} {}", step.kind == PlanStep::Kind::release ? "take" : verb, uuid,
                       leaf.substr(leaf.find('_') + 1), write.value);
}

std::vector<std::string> calls(const PlanStep& step, const Plan& plan) {
    std::vector<std::string> lines;
    switch (step.kind) {
        case PlanStep::Kind::load_driver:
            return {"load_driver"};
        case PlanStep::Kind::configure: {
            std::string line = "configure";
            for (const auto& write : step.writes) {
                const auto end = write.path.rfind('/');
                const auto begin = write.path.rfind('/', end - 1) + 1;
                line += ' ' + write.path.substr(begin, end - begin);
            }
            return {line};
        }
        case PlanStep::Kind::reserve:
            if (step.writes.size() == 1 && step.writes.front().path.ends_with("mask")) {
                const auto& write = step.writes.front();
                return {fmt::format("free {} {}{}", write.path.substr(write.path.rfind('/') + 1), write.value,
                                    names_of(step.queues))};
            }
            return {fmt::format("{}{}", plan.mechanism == Reservation::driver_override ? "override" : "probe",
                                names_of(step.queues))};
        case PlanStep::Kind::wait:
            return {"wait_for" + names_of(step.queues)};
        case PlanStep::Kind::create:
            return {"create " + step.mdev->to_string()};
        case PlanStep::Kind::release:
        case PlanStep::Kind::fill:
            for (const auto& write : step.writes)
                lines.push_back(mdev_call(step, write));
            return lines;
        case PlanStep::Kind::allow:
            break;
    }
    return lines;
}

}  // namespace

std::string render_plan_script(const Plan& plan) {
    const auto& report = plan.report;
    auto text = fmt::format(
        "#!/bin/sh\n"
        "# SPDX-License-Identifier: LGPL-2.1-or-later\n"
        "# What {} needs before {} can come from {}, by vfioapctl plan (mode {}{}).\n"
        "# For root, at {}. Safe to run again: what is done already is left as it is.\n",
        plain(report.destination.name), plain(report.guest.name), plain(report.source.name),
        to_text(report.mode), report.profile ? fmt::format(", profile {}", to_text(*report.profile)) : "",
        plain(report.destination.name));
    if (!plan.obstacles.empty()) {
        text += "set -eu\n\n# What no command mends; nothing is done before that is.\n{\n";
        for (const auto& obstacle : plan.obstacles) {
            text +=
                fmt::format("    echo {}\n",
                            shell_quoted(fmt::format("{}: {}", rule(obstacle.rule).name, obstacle.message)));
            for (const auto& todo : obstacle.todo)
                text += fmt::format("    echo {}\n", shell_quoted("  - " + todo));
        }
        return text + "} >&2\nexit 1\n";
    }
    if (plan.steps.empty()) {
        return text + fmt::format("set -eu\n\necho {}\n",
                                  shell_quoted(fmt::format("Nothing to do: {} has all that {} needs",
                                                           report.destination.name, report.guest.name)));
    }
    text += script_head;
    std::string body;
    std::set<std::string, std::less<>> used;
    const auto call = [&](const std::string& line) {
        body += line + '\n';
        used.insert(line.substr(0, line.find(' ')));
    };
    std::size_t number = 0;
    for (const auto& step : plan.steps) {
        ++number;
        body += fmt::format("\n# {}: {}\n", rule(step.rule).name, safe(step.why));
        if (!step.also_taken.empty())
            body += fmt::format("# The host's own drivers lose, too: {}\n", queue_list_text(step.also_taken));
        const auto what = fmt::format("{}/{} {}", number, plan.steps.size(), step.what);
        if (step.host == Side::source) {
            body += fmt::format("echo {}\n", shell_quoted(what + ": not here, but at " + report.source.name));
            for (const auto& command : commands_of(step))
                body += fmt::format("echo {}\n", shell_quoted("  " + command));
            continue;
        }
        body += fmt::format("echo {}\n", shell_quoted(what));
        for (const auto& line : calls(step, plan))
            call(line);
        for (const auto& command : step.persistent)
            call(fmt::format("keep {} {}", tool_of(command), shell_quoted(command)));
    }
    for (const auto& function : functions) {
        if (used.contains(function.name) && !function.needs.empty()) used.emplace(function.needs);
    }
    text += basics;
    for (const auto& function : functions) {
        if (used.contains(function.name)) text += function.text;
    }
    text += "\n[ -d \"$SYSFS/bus/ap\" ] || fail \"there is no AP bus in $SYSFS\"\n";
    text += body;
    text += fmt::format(
        "\necho {}\n",
        shell_quoted(fmt::format("Done. vfioap-check tells whether {} can come.", report.guest.name)));
    return text;
}

}  // namespace vfioap
