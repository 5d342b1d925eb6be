#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What z16-override needs before guest1 can come from z16-migratable, by vfioapctl plan (mode detached).
# For root, at z16-override. Safe to run again: what is done already is left as it is.
set -eu

# What no command mends; nothing is done before that is.
{
    echo 'queue.assigned-elsewhere: z16-override: 2 queues are assigned to another mdev, 1c7b6ad4-3f0e-4c0e-8d6a-6d2b1f0a7e11, which a guest uses'
    echo '  - find the guest that uses mdev 1c7b6ad4-3f0e-4c0e-8d6a-6d2b1f0a7e11 (virsh dumpxml), and move it or take the queues from it, if it can do without them'
    echo '  - or choose another destination'
    echo 'queue.mode: 2 queues have another mode at z16-override: CCA coprocessor instead of EP11 coprocessor'
    echo '  - change the mode of adapter 06 to EP11 coprocessor at the HMC (configure it off before), or use another destination; no command does it'
    echo 'queue.bs: 1 queue is bound or associated for Secure Execution: state 0 at z16-migratable, 1 at z16-override, both must be 0'
    echo '  - release the queue in the Secure Execution guest that has bound it (se_bind), or reset it'
} >&2
exit 1
