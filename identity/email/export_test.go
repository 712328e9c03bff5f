package email

import "time"

// What the tests need to see from inside.

// Work returns how many hashes of c are being made and waited for.
func (c *Connector) Work() (running, waiting int) {
	return len(c.pool.slots), int(c.pool.waiting.Load())
}

// Occupy takes all slots until the returned function is called.
func (c *Connector) Occupy() (release func()) {
	for range cap(c.pool.slots) {
		c.pool.slots <- struct{}{}
	}
	return func() {
		for range cap(c.pool.slots) {
			<-c.pool.slots
		}
	}
}

func (c *Connector) DummyCost() Cost { return c.dummy.cost }

func (c *Connector) Slots() int { return cap(c.pool.slots) }

const MaxWaiting = maxWaiting

// Reparse returns what parseHash makes of text, written again.
func Reparse(text string) (string, Cost, error) {
	h, err := parseHash(text)
	return h.String(), h.cost, err
}

func Encode(c Cost, password string) string { return c.hash(password).String() }

type Throttle = throttle

func NewThrottle(now func() time.Time) *Throttle { return newThrottle(now) }

func (t *throttle) Begin(userID, name, network string, known bool) (forget func(), ok bool) {
	a, _, ok := t.begin(userID, name, network, known)
	return a.forget, ok
}

func (t *throttle) Sizes() (accounts, networks int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.accounts), len(t.networks)
}

var (
	Network = network
	Weak    = weak

	Suffixed   = suffixed
	MailWindow = mailsPerAddress.window
)

const (
	MaxPasskeys   = maxPasskeys
	MinParts      = minParts
	LongestWord   = longestWord
	RecoveryCodes = recoveryCodes
)

// Hashes returns how many hashes c has made or waited for.
func (c *Connector) Hashes() int64 { return c.pool.runs.Load() }

func Words() map[string]bool { return words }

const (
	Window      = window
	PerAccount  = perAccount
	Reserved    = reserved
	PerNetwork  = perNetwork
	MaxNetworks = maxNetworks
)
