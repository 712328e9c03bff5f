package email

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// The throttle slows guessing down by account and by client network. An account may
// have perAccount failed attempts in a window, whichever of its names, in whatever
// spelling, they were made with, and from wherever. A sign-in that succeeds costs
// nothing.
//
// Somebody who keeps an account's attempts used up would keep its owner out too. So
// reserved of them are kept for networks that the account has signed in from before:
// a stranger cannot use those up.
//
// Memory is bounded. A counter of a real account is never given up for another one;
// there are no more of them than accounts. Names without an account share a fixed
// number of counters. Networks are forgotten when there are too many: that gives up
// the bound per network under a flood from everywhere, and not the one per account.
const (
	window     = 15 * time.Minute
	perAccount = 10
	reserved   = 2

	perNetwork  = 40
	maxNetworks = 20_000

	strangers = 1 << 14
)

// noteEvery is how often refusals of one counter are put on record: an attacker must
// not be able to fill the disk.
const noteEvery = time.Minute

type throttle struct {
	now  func() time.Time
	seed maphash.Seed

	mu        sync.Mutex
	accounts  map[string]*counter // by user ID
	networks  map[string]*counter
	strangers []counter // by hash of the name
	swept     time.Time

	overloads, setups, links, closed, passkeys counter // what was refused for other reasons
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{
		now: now, seed: maphash.MakeSeed(), swept: now(),
		accounts: make(map[string]*counter), networks: make(map[string]*counter), strangers: make([]counter, strangers),
	}
}

// counter has the times of the attempts within the window, and what was refused.
type counter struct {
	attempts []time.Time
	refused  int
	noted    time.Time
}

// recent drops what the window has left behind and returns how many remain.
func (c *counter) recent(now time.Time) int {
	old := 0
	for old < len(c.attempts) && !c.attempts[old].After(now.Add(-window)) {
		old++
	}
	c.attempts = append(c.attempts[:0], c.attempts[old:]...)
	return len(c.attempts)
}

func (c *counter) add(now time.Time) {
	if cap(c.attempts) == 0 {
		c.attempts = make([]time.Time, 0, 2)
	}
	c.attempts = append(c.attempts, now)
}

// remove takes one attempt of a moment back.
func (c *counter) remove(at time.Time) {
	for i, t := range c.attempts {
		if t.Equal(at) {
			c.attempts = append(c.attempts[:i], c.attempts[i+1:]...)
			return
		}
	}
}

// refuse counts a refusal and returns how many there were since the last one on
// record, or 0 while the record of this one can wait.
func (c *counter) refuse(now time.Time) int {
	c.refused++
	if !c.noted.IsZero() && now.Sub(c.noted) < noteEvery {
		return 0
	}
	n := c.refused
	c.refused, c.noted = 0, now
	return n
}

// refuse counts a refusal that the throttle did not make; see [counter.refuse].
func (t *throttle) refuse(c *counter) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return c.refuse(t.now())
}

// attempt is one attempt that the throttle let pass.
type attempt struct {
	throttle *throttle
	at       time.Time
	counters []*counter
}

// forget takes the attempt back: it succeeded, or was never evaluated.
func (a attempt) forget() {
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	for _, c := range a.counters {
		c.remove(a.at)
	}
}

// refusal says what the throttle refused.
type refusal struct {
	reason string
	count  int // refusals to put on record now, this one included; 0: none
}

// begin counts an attempt on an account: of userID when there is one, otherwise of
// the canonical name. known says that the account has signed in from the network
// before. It is counted before it is evaluated, so that attempts at the same time
// cannot all pass.
func (t *throttle) begin(userID, name, network string, known bool) (attempt, refusal, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.sweep(now)
	account := t.account(userID, name)
	a := attempt{throttle: t, at: now}
	if network != "" {
		from := entry(t.networks, network)
		if from.recent(now) >= perNetwork {
			return a, refusal{ThrottledNetwork, from.refuse(now)}, false
		}
		a.counters = append(a.counters, from)
	}
	limit := perAccount - reserved
	if known {
		limit = perAccount
	}
	if account.recent(now) >= limit {
		return a, refusal{ThrottledAccount, account.refuse(now)}, false
	}
	a.counters = append(a.counters, account)
	for _, c := range a.counters {
		c.add(now)
	}
	return a, refusal{}, true
}

// note counts a refusal for a reason that the database has given; see [counter.refuse].
func (t *throttle) note(userID, name, network, reason string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if reason == ThrottledNetwork {
		return entry(t.networks, network).refuse(t.now())
	}
	return t.account(userID, name).refuse(t.now())
}

// account returns the counter of an account, or of a name without one.
func (t *throttle) account(userID, name string) *counter {
	if userID != "" {
		return entry(t.accounts, userID)
	}
	return &t.strangers[maphash.String(t.seed, name)%strangers]
}

func entry(m map[string]*counter, key string) *counter {
	c := m[key]
	if c == nil {
		c = &counter{}
		m[key] = c
	}
	return c
}

// sweep drops counters that count nothing, once a minute or when there are too many
// networks; if that is not enough, any of those.
func (t *throttle) sweep(now time.Time) {
	if now.Sub(t.swept) < time.Minute && len(t.networks) < maxNetworks {
		return
	}
	t.swept = now
	for _, m := range []map[string]*counter{t.accounts, t.networks} {
		for key, c := range m {
			if c.recent(now) == 0 && now.Sub(c.noted) >= noteEvery {
				delete(m, key)
			}
		}
	}
	for key := range t.networks {
		if len(t.networks) < maxNetworks*9/10 {
			break
		}
		delete(t.networks, key)
	}
}

// network returns what is counted as one client: an IPv4 address, or the /64 that an
// IPv6 host chooses its addresses from. It is "" for what is no address.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return ""
	}
	return prefix.String()
}
