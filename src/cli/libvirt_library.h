// SPDX-License-Identifier: LGPL-2.1-or-later
// The functions of libvirt that are needed, from a library that is loaded when it is. Linked, it would cost
// every run of a program 14 MB of memory and 15 ms of start, and most checks read a file or a snapshot; and
// no program would run on a host without it.
#pragma once

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

namespace vfioap {

/// The library that is loaded for it, at the first call only.
inline constexpr const char* libvirt_library = "libvirt.so.0";

/// Its functions, by the names of libvirt's manual without their prefix. libvirt 9.0 has them all; the
/// youngest, virDomainMigrate3, came with 1.1.
struct Libvirt {
    decltype(&virSetErrorFunc) set_error_func = nullptr;
    decltype(&virGetLastError) last_error = nullptr;

    decltype(&virConnectOpen) open = nullptr;
    decltype(&virConnectOpenReadOnly) open_read_only = nullptr;
    decltype(&virConnectClose) close = nullptr;
    decltype(&virConnectIsAlive) is_alive = nullptr;
    decltype(&virConnectSetKeepAlive) set_keep_alive = nullptr;
    decltype(&virConnectRegisterCloseCallback) register_close_callback = nullptr;
    decltype(&virConnectUnregisterCloseCallback) unregister_close_callback = nullptr;
    decltype(&virConnectDomainEventRegisterAny) register_domain_event = nullptr;
    decltype(&virConnectDomainEventDeregisterAny) deregister_domain_event = nullptr;
    decltype(&virConnectListAllDomains) list_all = nullptr;

    decltype(&virDomainLookupByUUIDString) lookup_by_uuid = nullptr;
    decltype(&virDomainLookupByName) lookup_by_name = nullptr;
    decltype(&virDomainGetXMLDesc) xml_desc = nullptr;
    decltype(&virDomainGetID) domain_id = nullptr;
    decltype(&virDomainGetName) domain_name = nullptr;
    decltype(&virDomainGetUUIDString) domain_uuid = nullptr;
    decltype(&virDomainIsPersistent) is_persistent = nullptr;
    decltype(&virDomainGetMetadata) get_metadata = nullptr;
    decltype(&virDomainSetMetadata) set_metadata = nullptr;
    decltype(&virDomainGetJobInfo) get_job_info = nullptr;
    decltype(&virDomainAbortJob) abort_job = nullptr;
    decltype(&virDomainGetState) get_state = nullptr;
    decltype(&virDomainAttachDeviceFlags) attach_device = nullptr;
    decltype(&virDomainDetachDeviceFlags) detach_device = nullptr;
    decltype(&virDomainMigrateToURI3) migrate_to_uri = nullptr;
    decltype(&virDomainMigrate3) migrate = nullptr;
    decltype(&virDomainGetJobStats) get_job_stats = nullptr;
    decltype(&virDomainFree) free_domain = nullptr;

    decltype(&virTypedParamsAddString) add_string_param = nullptr;
    decltype(&virTypedParamsAddULLong) add_number_param = nullptr;
    decltype(&virTypedParamsGetULLong) get_number_param = nullptr;
    decltype(&virTypedParamsFree) free_params = nullptr;

    decltype(&virEventRegisterDefaultImpl) register_event_loop = nullptr;
    decltype(&virEventRunDefaultImpl) run_event_loop = nullptr;
    decltype(&virEventAddHandle) add_handle = nullptr;
    decltype(&virEventRemoveHandle) remove_handle = nullptr;
    decltype(&virEventAddTimeout) add_timeout = nullptr;
    decltype(&virEventUpdateTimeout) update_timeout = nullptr;
    decltype(&virEventRemoveTimeout) remove_timeout = nullptr;

    /// Of libxml2, which libvirt's test driver lets print; null where libvirt does not bring it along.
    void (*set_xml_error_func)(void*, void (*)(void*, const char*, ...)) = nullptr;
};

/// Loads it, and keeps it from printing its errors to standard error beside what is made of them here. Never
/// unloaded: libvirt starts threads and registers handlers that must not outlive its code. Throws Error.
Libvirt load_libvirt(const char* library = libvirt_library);

/// Keeps libxml2 quiet in this thread while libvirt works, and lets it speak again to whoever else uses it.
class QuietXml {
  public:
    explicit QuietXml(const Libvirt& libvirt);
    ~QuietXml();
    QuietXml(const QuietXml&) = delete;
    QuietXml& operator=(const QuietXml&) = delete;
    QuietXml(QuietXml&&) = delete;
    QuietXml& operator=(QuietXml&&) = delete;

  private:
    const Libvirt& libvirt_;
};

}  // namespace vfioap
