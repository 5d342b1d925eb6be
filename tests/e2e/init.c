/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The only program of a guest: counts on its console, so that a test sees that it goes on, without a gap and without
   having been started again. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned long count = 1;; ++count) {
        printf("tick %lu\n", count);
        usleep(200000);
    }
}
