#!/bin/sh
# A program with a child that leaves its process group.
/usr/bin/setsid /usr/bin/sleep 300 &
exec /usr/bin/sleep 300
