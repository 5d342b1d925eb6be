// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli/libvirt_library.h"

#include "ap/error.h"
#include "text/safe.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace vfioap {
namespace {

[[noreturn]] void fail() {
    const char* const reason = ::dlerror();
    throw Error{fmt::format("no libvirt to ask: cannot load its library: {}",
                            printable(reason == nullptr ? "unknown error" : reason, 200))};
}

template <typename Function>
void load(void* handle, Function& function, const char* name) {
    function = reinterpret_cast<Function>(::dlsym(handle, name));
}

template <typename Function>
void need(void* handle, Function& function, const char* name) {
    load(handle, function, name);
    if (function == nullptr) fail();
}

void discard(void* /*context*/, const char* /*format*/, ...) {}

}  // namespace

Libvirt load_libvirt(const char* library) {
    void* const handle = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) fail();
    Libvirt libvirt;
    need(handle, libvirt.set_error_func, "virSetErrorFunc");
    need(handle, libvirt.last_error, "virGetLastError");
    need(handle, libvirt.open, "virConnectOpen");
    need(handle, libvirt.open_read_only, "virConnectOpenReadOnly");
    need(handle, libvirt.close, "virConnectClose");
    need(handle, libvirt.is_alive, "virConnectIsAlive");
    need(handle, libvirt.set_keep_alive, "virConnectSetKeepAlive");
    need(handle, libvirt.register_close_callback, "virConnectRegisterCloseCallback");
    need(handle, libvirt.unregister_close_callback, "virConnectUnregisterCloseCallback");
    need(handle, libvirt.register_domain_event, "virConnectDomainEventRegisterAny");
    need(handle, libvirt.deregister_domain_event, "virConnectDomainEventDeregisterAny");
    need(handle, libvirt.list_all, "virConnectListAllDomains");
    need(handle, libvirt.lookup_by_uuid, "virDomainLookupByUUIDString");
    need(handle, libvirt.lookup_by_name, "virDomainLookupByName");
    need(handle, libvirt.xml_desc, "virDomainGetXMLDesc");
    need(handle, libvirt.domain_id, "virDomainGetID");
    need(handle, libvirt.domain_name, "virDomainGetName");
    need(handle, libvirt.domain_uuid, "virDomainGetUUIDString");
    need(handle, libvirt.is_persistent, "virDomainIsPersistent");
    need(handle, libvirt.get_metadata, "virDomainGetMetadata");
    need(handle, libvirt.set_metadata, "virDomainSetMetadata");
    need(handle, libvirt.get_job_info, "virDomainGetJobInfo");
    need(handle, libvirt.abort_job, "virDomainAbortJob");
    need(handle, libvirt.get_state, "virDomainGetState");
    need(handle, libvirt.attach_device, "virDomainAttachDeviceFlags");
    need(handle, libvirt.detach_device, "virDomainDetachDeviceFlags");
    need(handle, libvirt.migrate_to_uri, "virDomainMigrateToURI3");
    need(handle, libvirt.migrate, "virDomainMigrate3");
    need(handle, libvirt.get_job_stats, "virDomainGetJobStats");
    need(handle, libvirt.free_domain, "virDomainFree");
    need(handle, libvirt.add_string_param, "virTypedParamsAddString");
    need(handle, libvirt.add_number_param, "virTypedParamsAddULLong");
    need(handle, libvirt.get_number_param, "virTypedParamsGetULLong");
    need(handle, libvirt.free_params, "virTypedParamsFree");
    need(handle, libvirt.register_event_loop, "virEventRegisterDefaultImpl");
    need(handle, libvirt.run_event_loop, "virEventRunDefaultImpl");
    need(handle, libvirt.add_handle, "virEventAddHandle");
    need(handle, libvirt.remove_handle, "virEventRemoveHandle");
    need(handle, libvirt.add_timeout, "virEventAddTimeout");
    need(handle, libvirt.update_timeout, "virEventUpdateTimeout");
    need(handle, libvirt.remove_timeout, "virEventRemoveTimeout");
    load(handle, libvirt.set_xml_error_func, "xmlSetGenericErrorFunc");
    libvirt.set_error_func(nullptr, [](void*, virErrorPtr) {});
    return libvirt;
}

QuietXml::QuietXml(const Libvirt& libvirt) : libvirt_{libvirt} {
    if (libvirt_.set_xml_error_func != nullptr) libvirt_.set_xml_error_func(nullptr, discard);
}

QuietXml::~QuietXml() {
    if (libvirt_.set_xml_error_func != nullptr) libvirt_.set_xml_error_func(nullptr, nullptr);
}

}  // namespace vfioap
