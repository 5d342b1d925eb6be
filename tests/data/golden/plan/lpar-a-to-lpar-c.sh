#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What lpar-c needs before guest1 can come from lpar-a, by vfioapctl plan (mode detached).
# For root, at lpar-c. Safe to run again: what is done already is left as it is.
set -eu

# What no command mends; nothing is done before that is.
{
    echo 'queue.missing: lpar-c: 2 queues do not exist'
    echo '  - assign adapter 06 to this LPAR at the HMC; no command does it'
    echo 'queue.assigned-elsewhere: lpar-c: 2 queues are assigned to another mdev, 2f9e0c58-92aa-4f2b-b0f4-0a5c44d3b822, which a guest uses'
    echo '  - find the guest that uses mdev 2f9e0c58-92aa-4f2b-b0f4-0a5c44d3b822 (virsh dumpxml), and move it or take the queues from it, if it can do without them'
    echo '  - or choose another destination'
    echo 'control-domain.missing: lpar-c does not have 1 control domain of the guest'
    echo '  - assign the control domains to this LPAR at the HMC; no command does it'
    echo 'masterkey.mismatch: 2 queues: the current AES master key differs: secure keys of the guest would fail after the move'
    echo '  - load and set the same master keys at the destination (TKE or panel.exe); no command of Linux does it'
    echo 'masterkey.mismatch: 2 queues: the current APKA master key differs: secure keys of the guest would fail after the move'
    echo '  - load and set the same master keys at the destination (TKE or panel.exe); no command of Linux does it'
    echo 'masterkey.mismatch: 2 queues: the current ASYM master key differs: secure keys of the guest would fail after the move'
    echo '  - load and set the same master keys at the destination (TKE or panel.exe); no command of Linux does it'
} >&2
exit 1
