#!/bin/sh
# Known holes in the packages that are shipped. Status 1 if there are some; where nobody can be asked, it says so.
set -u
report=$(npm audit --omit=dev --json 2>/dev/null)
case $report in
*'"auditReportVersion"'*) ;;
*)
  echo "audit: skipped, the package registry does not answer it" >&2
  exit 0
  ;;
esac
npm audit --omit=dev
