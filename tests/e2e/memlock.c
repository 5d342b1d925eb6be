/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Preloaded into libvirtd: the limit of locked memory counts as raised. libvirt wants it raised for a guest with a
   VFIO device; a container may not raise it, and where the device is played by a test nothing is locked. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    int (*real)(__rlimit_resource_t, const struct rlimit *) = dlsym(RTLD_NEXT, "setrlimit");
    if (resource == RLIMIT_MEMLOCK) return 0;
    return real(resource, limit);
}

int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
{
    int (*real)(__rlimit_resource_t, const struct rlimit64 *) = dlsym(RTLD_NEXT, "setrlimit64");
    if (resource == RLIMIT_MEMLOCK) return 0;
    return real(resource, limit);
}

int prlimit(pid_t process, enum __rlimit_resource resource, const struct rlimit *limit, struct rlimit *old)
{
    int (*real)(pid_t, enum __rlimit_resource, const struct rlimit *, struct rlimit *) = dlsym(RTLD_NEXT, "prlimit");
    if (resource == RLIMIT_MEMLOCK) limit = NULL;
    if (limit == NULL && old == NULL) return 0;
    return real(process, resource, limit, old);
}

int prlimit64(pid_t process, enum __rlimit_resource resource, const struct rlimit64 *limit, struct rlimit64 *old)
{
    int (*real)(pid_t, enum __rlimit_resource, const struct rlimit64 *, struct rlimit64 *) =
        dlsym(RTLD_NEXT, "prlimit64");
    if (resource == RLIMIT_MEMLOCK) limit = NULL;
    if (limit == NULL && old == NULL) return 0;
    return real(process, resource, limit, old);
}
