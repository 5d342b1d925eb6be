#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What lpar-a needs before guest1 can come from lpar-a, by vfioapctl plan (mode detached).
# For root, at lpar-a. Safe to run again: what is done already is left as it is.
set -eu

echo 'Nothing to do: lpar-a has all that guest1 needs'
