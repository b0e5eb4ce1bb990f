#!/bin/sh
# Prints what a program could do to the system it runs on, a word for each; the unit shall let none of it happen.
for place in /etc /usr /usr/local/bin /var/lib /var/log /run /boot /opt /srv /srv/tasks /sys/fs/cgroup /sys/fs/cgroup/system.slice; do
  if (: >"$place/reached") 2>/dev/null || mkdir "$place/reached-too" 2>/dev/null; then echo "wrote:$place"; fi
done
for place in /home /root /var/lib/private; do
  if ls "$place" >/dev/null 2>&1; then echo "listed:$place"; fi
done
[ ! -e /dev/mem ] && [ ! -e /dev/kmsg ] || echo devices
[ ! -d /proc/1 ] || echo saw:the-init-system
if mkdir -p /tmp/mount && mount -t tmpfs none /tmp/mount 2>/dev/null; then echo mounted; fi
if nice -n -5 true 2>/dev/null && [ "$(nice -n -5 nice 2>/dev/null)" = -5 ]; then echo priority; fi
echo "nothing else"
