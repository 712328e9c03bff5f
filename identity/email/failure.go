package email

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
)

// Failed attempts to sign in are counted in the database as well, so that somebody
// who guesses has no more of them at several replicas, or after a restart, than at one.
// The counters of a process, see throttle.go, are exact and come first: a flood does
// not get as far as the database. Here time is cut into slices, of which as many count
// as make a window, the one that has just begun included: within 12 to 15 minutes
// replicas evaluate as many as one does, and one more each at the same moment.
const (
	slice      = 3 * time.Minute
	sliceCount = int64(window / slice)
)

// failures are the names of an account's and a network's counters, slice by slice, the
// present one first.
type failures struct{ account, network []string }

func failuresOf(userID, name, network string, now time.Time) (f failures) {
	account := "login-user:" + userID
	if userID == "" {
		// What was typed may be a password, and is not kept.
		hash := sha256.Sum256([]byte("login " + name))
		account = "login-name:" + hex.EncodeToString(hash[:16])
	}
	present := now.UnixMicro() / slice.Microseconds()
	for i := range sliceCount {
		at := ":" + strconv.FormatInt(present-i, 36)
		f.account = append(f.account, account+at)
		f.network = append(f.network, "login-network:"+network+at)
	}
	return f
}

// exceeded returns why an attempt must not be evaluated; "" when it may be.
func (c *Connector) exceeded(ctx context.Context, f failures, network string, known bool) (string, error) {
	account, all, err := c.store.counts(ctx, f.account, f.network)
	limit := perAccount - reserved
	if known {
		limit = perAccount
	}
	switch {
	case err != nil:
		return "", err
	case network != "" && all >= perNetwork:
		return ThrottledNetwork, nil
	case account >= limit:
		return ThrottledAccount, nil
	}
	return "", nil
}

// failed counts a failed attempt.
func (c *Connector) failed(ctx context.Context, f failures, now time.Time) error {
	if err := c.sweep(ctx, now); err != nil {
		return err
	}
	return c.store.count(ctx, f.account[0], f.network[0], now)
}
