package email_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/identity/email"
)

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2::": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "": "", "x": "", "192.0.2.1:80": "",
	} {
		if got := email.Network(address); got != want {
			t.Errorf("Network(%q) = %q, want %q", address, got, want)
		}
	}
}

// Whatever the order, the spelling and the times: never more than ten failures of
// one account in a window, and at most eight of them from where it is not known.
func TestThrottleProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(0, 0)
		throttle := email.NewThrottle(func() time.Time { return now })
		var all, unknown []time.Time
		for i := range rapid.IntRange(1, 200).Draw(t, "attempts") {
			now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "pause")) * time.Second)
			known := rapid.Bool().Draw(t, "known")
			forget, passed := throttle.Begin("u", fmt.Sprint("spelling", i%3), fmt.Sprint("network", i), known)
			if passed && rapid.IntRange(0, 4).Draw(t, "outcome") == 0 {
				forget()
				continue
			}
			if passed {
				all = append(all, now)
				if !known {
					unknown = append(unknown, now)
				}
			}
			if n := within(all, now); n > email.PerAccount {
				t.Fatalf("%d attempts in a window", n)
			}
			if n := within(unknown, now); n > email.PerAccount-email.Reserved {
				t.Fatalf("%d attempts of strangers in a window", n)
			}
			if !passed && within(all, now) < email.PerAccount-email.Reserved {
				t.Fatalf("refused after %d attempts", within(all, now))
			}
		}
	})
}

func within(times []time.Time, now time.Time) (n int) {
	for _, at := range times {
		if at.After(now.Add(-email.Window)) {
			n++
		}
	}
	return n
}

func TestThrottleOfOneNetwork(t *testing.T) {
	now := time.Unix(0, 0)
	throttle := email.NewThrottle(func() time.Time { return now })
	passed := 0
	for i := range 200 {
		if _, ok := throttle.Begin(fmt.Sprint("u", i), "", "192.0.2.1", false); ok {
			passed++
		}
	}
	if passed != email.PerNetwork {
		t.Errorf("%d attempts from one network", passed)
	}
	if _, ok := throttle.Begin("u", "", "192.0.2.2", false); !ok {
		t.Error("another network is throttled as well")
	}
	now = now.Add(email.Window)
	if _, ok := throttle.Begin("u", "", "192.0.2.1", false); !ok {
		t.Error("throttled for good")
	}
}

// A flood of names and networks neither frees a real account's counter nor takes
// memory without end.
func TestThrottleUnderFlood(t *testing.T) {
	now := time.Unix(0, 0)
	throttle := email.NewThrottle(func() time.Time { return now })
	for range email.PerAccount {
		throttle.Begin("admin", "", "", true)
	}
	for i := range 60_000 {
		now = now.Add(5 * time.Millisecond)
		throttle.Begin("", fmt.Sprint("name", i), fmt.Sprint("network", i), false)
	}
	if _, ok := throttle.Begin("admin", "", "", true); ok {
		t.Error("the flood has freed the account")
	}
	if accounts, networks := throttle.Sizes(); accounts != 1 || networks > email.MaxNetworks {
		t.Errorf("%d accounts and %d networks are remembered", accounts, networks)
	}
	now = now.Add(2 * email.Window)
	throttle.Begin("", "x", "", false)
	if accounts, networks := throttle.Sizes(); accounts != 0 || networks != 0 {
		t.Errorf("%d accounts and %d networks are remembered for nothing", accounts, networks)
	}
}
