# shellcheck shell=bash
# Where apt on this machine gets Debian from, for debootstrap. Sourced.
debian_mirror() {
  local found
  # shellcheck disable=SC2016 # apt's own placeholder
  found=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -E '/debian/?$' | sort -u |
    awk 'NR == 1' || true)
  printf '%s' "${found:-http://deb.debian.org/debian}"
}
