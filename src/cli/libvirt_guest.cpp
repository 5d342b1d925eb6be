// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli/libvirt_guest.h"

#include "ap/error.h"
#include "ap/uuid.h"
#include "cli/libvirt_library.h"
#include "text/safe.h"

#include <cstdlib>
#include <memory>
#include <string_view>

#include <fmt/format.h>

namespace vfioap {
namespace {

/// One connection and what may be asked of it.
class Connection {
  public:
    Connection(const Libvirt& libvirt, const std::string& uri)
        : libvirt_{libvirt},
          name_{uri.empty() ? "libvirt" : printable(uri)},
          connection_{libvirt.open_read_only(uri.empty() ? nullptr : uri.c_str()), libvirt.close} {
        if (!connection_) fail("connect");
    }

    [[nodiscard]] std::string domain_xml(const std::string& guest) const {
        std::unique_ptr<virDomain, decltype(&virDomainFree)> domain{nullptr, libvirt_.free_domain};
        if (Uuid::parse(guest)) domain.reset(libvirt_.lookup_by_uuid(connection_.get(), guest.c_str()));
        if (!domain) domain.reset(libvirt_.lookup_by_name(connection_.get(), guest.c_str()));
        if (!domain) {
            fail_without(guest);
            fail(fmt::format("look for guest \"{}\"", printable(guest)));
        }
        const std::unique_ptr<char, decltype(&std::free)> xml{libvirt_.xml_desc(domain.get(), 0), std::free};
        if (!xml) {
            // It may have gone in between.
            fail_without(guest);
            fail(fmt::format("read the XML of guest \"{}\"", printable(guest)));
        }
        return xml.get();
    }

    [[nodiscard]] std::vector<std::string> all_domain_xml() const {
        virDomainPtr* list = nullptr;
        const int count = libvirt_.list_all(connection_.get(), &list, 0);
        if (count < 0) fail("list the guests");
        std::vector<std::string> result;
        for (int i = 0; i < count; ++i) {
            const std::unique_ptr<virDomain, decltype(&virDomainFree)> domain{list[i], libvirt_.free_domain};
            const std::unique_ptr<char, decltype(&std::free)> xml{libvirt_.xml_desc(domain.get(), 0),
                                                                  std::free};
            // Without XML it has gone since it was listed.
            if (xml) result.emplace_back(xml.get());
        }
        std::free(list);  // NOLINT(cppcoreguidelines-no-malloc): libvirt allocates so
        return result;
    }

  private:
    void fail_without(const std::string& guest) const {
        const auto* const error = libvirt_.last_error();
        if (error != nullptr && error->code == VIR_ERR_NO_DOMAIN)
            throw InputError{printable(guest), fmt::format("no such guest at {}", name_)};
    }
    [[noreturn]] void fail(std::string_view operation) const {
        const auto* const error = libvirt_.last_error();
        throw Error{fmt::format("{}: cannot {}: {}", name_, operation,
                                error == nullptr || error->message == nullptr
                                    ? "unknown error"
                                    : printable(error->message, 400))};
    }

    const Libvirt& libvirt_;
    std::string name_;
    std::unique_ptr<virConnect, decltype(&virConnectClose)> connection_;
};

}  // namespace

std::vector<std::string> all_domain_xml_from_libvirt(const std::string& uri) {
    const auto libvirt = load_libvirt();
    const QuietXml quiet{libvirt};
    return Connection{libvirt, uri}.all_domain_xml();
}

std::string domain_xml_from_libvirt(const std::string& uri, const std::string& guest, const char* library) {
    const auto libvirt = load_libvirt(library);
    const QuietXml quiet{libvirt};
    return Connection{libvirt, uri}.domain_xml(guest);
}

}  // namespace vfioap
