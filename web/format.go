package web

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ago says how long before or after now t is, in one unit.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	var text string
	switch abs := d.Abs(); {
	case abs < 45*time.Second:
		if d < 0 {
			return "in a moment"
		}
		return "just now"
	case abs < 90*time.Minute:
		text = count(int64((abs+30*time.Second)/time.Minute), "minute")
	case abs < 36*time.Hour:
		text = count(int64((abs+30*time.Minute)/time.Hour), "hour")
	case abs < 60*24*time.Hour:
		text = count(int64((abs+12*time.Hour)/(24*time.Hour)), "day")
	case abs < 2*365*24*time.Hour:
		text = count(int64(abs/(30*24*time.Hour)), "month")
	default:
		text = count(int64(abs/(365*24*time.Hour)), "year")
	}
	if d < 0 {
		return "in " + text
	}
	return text + " ago"
}

// took says how long something lasted.
func took(d time.Duration) string {
	switch {
	case d <= 0:
		return "under a second"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
}

// count returns "1 stack" or "2 stacks".
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return number(n) + " " + noun + "s"
}

// number groups the digits of n by thin spaces.
func number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return digits
}

// shortURN returns the name at the end of a resource's URN.
func shortURN(urn string) string {
	if i := strings.LastIndex(urn, "::"); i >= 0 && strings.HasPrefix(urn, "urn:pulumi:") {
		return urn[i+2:]
	}
	return urn
}

// typeName shortens a resource's type token: aws:s3/bucket:Bucket is aws:s3:Bucket.
func typeName(token string) string {
	parts := strings.Split(token, ":")
	if len(parts) != 3 {
		return token
	}
	module, _, _ := strings.Cut(parts[1], "/")
	if module == "" || module == "index" {
		return parts[0] + ":" + parts[2]
	}
	return parts[0] + ":" + module + ":" + parts[2]
}

// terminal matches what the engine writes for a terminal: its own colour marks, and
// escape sequences (ECMA-48 §5.4).
var terminal = regexp.MustCompile(`<\{%[^%]{0,40}%\}>|\x1b\[[0-?]*[ -/]*[@-~]`)

// plain returns a message of the engine as it is read on a page.
func plain(text string) string {
	text = strings.ToValidUTF8(terminal.ReplaceAllString(text, ""), "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= ' ' && (r < 0x7f || r >= 0xa0) {
			return r
		}
		return -1
	}, text)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// browser names the browser and system of a User-Agent, as far as a person would.
func browser(agent string) string {
	find := func(names ...[2]string) string {
		for _, n := range names {
			if strings.Contains(agent, n[0]) {
				return n[1]
			}
		}
		return ""
	}
	name := find([2]string{"Edg/", "Edge"}, [2]string{"OPR/", "Opera"}, [2]string{"Firefox/", "Firefox"},
		[2]string{"Chrome/", "Chrome"}, [2]string{"Safari/", "Safari"})
	system := find([2]string{"iPhone", "iPhone"}, [2]string{"iPad", "iPad"}, [2]string{"Android", "Android"}, [2]string{"Windows", "Windows"},
		[2]string{"Mac OS", "macOS"}, [2]string{"Linux", "Linux"})
	switch {
	case name == "":
		return "An unknown browser"
	case system == "":
		return name
	}
	return name + " on " + system
}
