// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli/libvirt_guest.h"

#include "ap/error.h"
#include "ap/uuid.h"
#include "domain/printable.h"

#include <cstdlib>
#include <memory>
#include <string_view>

#include <dlfcn.h>
#include <fmt/format.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

namespace vfioap {
namespace {

/// The functions of libvirt that are needed, from a library that is loaded when it is. Linked, it would cost
/// every run of a program 14 MB of memory and 15 ms of start, and most checks read a file or a snapshot.
class Libvirt {
  public:
    explicit Libvirt(const char* library)
        // Never closed: libvirt starts threads and registers handlers that must not outlive its code.
        : handle_{::dlopen(library, RTLD_NOW | RTLD_LOCAL)} {
        if (handle_ == nullptr) fail();
        load(set_error_func, "virSetErrorFunc");
        load(last_error, "virGetLastError");
        load(open_read_only, "virConnectOpenReadOnly");
        load(close, "virConnectClose");
        load(lookup_by_uuid, "virDomainLookupByUUIDString");
        load(lookup_by_name, "virDomainLookupByName");
        load(list_all, "virConnectListAllDomains");
        load(xml_desc, "virDomainGetXMLDesc");
        load(free_domain, "virDomainFree");
        load(set_xml_error_func, "xmlSetGenericErrorFunc", false);
        // Otherwise libvirt prints each error to standard error, beside what is made of it here.
        set_error_func(nullptr, [](void*, virErrorPtr) {});
    }

    decltype(&virSetErrorFunc) set_error_func = nullptr;
    decltype(&virGetLastError) last_error = nullptr;
    decltype(&virConnectOpenReadOnly) open_read_only = nullptr;
    decltype(&virConnectClose) close = nullptr;
    decltype(&virDomainLookupByUUIDString) lookup_by_uuid = nullptr;
    decltype(&virDomainLookupByName) lookup_by_name = nullptr;
    decltype(&virConnectListAllDomains) list_all = nullptr;
    decltype(&virDomainGetXMLDesc) xml_desc = nullptr;
    decltype(&virDomainFree) free_domain = nullptr;
    /// Of libxml2, which libvirt's test driver lets print; null where libvirt does not bring it along.
    void (*set_xml_error_func)(void*, void (*)(void*, const char*, ...)) = nullptr;

  private:
    template <typename Function>
    void load(Function& function, const char* name, bool required = true) {
        function = reinterpret_cast<Function>(::dlsym(handle_, name));
        if (required && function == nullptr) fail();
    }
    [[noreturn]] static void fail() {
        const char* const reason = ::dlerror();
        throw Error{fmt::format("no libvirt to ask: cannot load its library: {}",
                                printable(reason == nullptr ? "unknown error" : reason, 200))};
    }

    void* handle_;
};

void discard(void* /*context*/, const char* /*format*/, ...) {}

/// Keeps libxml2 quiet while libvirt works, and lets it speak again to whoever else uses it.
class QuietXml {
  public:
    explicit QuietXml(const Libvirt& libvirt) : libvirt_{libvirt} { set(discard); }
    ~QuietXml() { set(nullptr); }
    QuietXml(const QuietXml&) = delete;
    QuietXml& operator=(const QuietXml&) = delete;
    QuietXml(QuietXml&&) = delete;
    QuietXml& operator=(QuietXml&&) = delete;

  private:
    void set(void (*function)(void*, const char*, ...)) const {
        if (libvirt_.set_xml_error_func != nullptr) libvirt_.set_xml_error_func(nullptr, function);
    }
    const Libvirt& libvirt_;
};

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
    const Libvirt libvirt{libvirt_library};
    const QuietXml quiet{libvirt};
    return Connection{libvirt, uri}.all_domain_xml();
}

std::string domain_xml_from_libvirt(const std::string& uri, const std::string& guest, const char* library) {
    const Libvirt libvirt{library};
    const QuietXml quiet{libvirt};
    return Connection{libvirt, uri}.domain_xml(guest);
}

}  // namespace vfioap
