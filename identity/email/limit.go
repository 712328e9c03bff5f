package email

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// A limit bounds how often something may be done within any time of its window. It is
// kept in the database, so that replicas share it and no restart forgets it. When it
// is used up, the window runs from the last use that was counted; what is refused does
// not prolong it.
type limit struct {
	purpose string
	uses    int
	window  time.Duration
}

// The limits. What they bound is in the name of each.
var (
	mailsPerAddress = limit{"mail-address", 5, time.Hour}
	mailsPerNetwork = limit{"mail-network", 20, time.Hour}
	codesPerUser    = limit{"mfa", 5, 15 * time.Minute}
)

// longestWindow is when what was counted can be forgotten, whatever it was.
const longestWindow = time.Hour

func (l limit) name(of string) string { return l.purpose + ":" + of }

// use counts one use of l by somebody, and reports whether it is within the limit.
// The first refusal of a window is put on record as e.
func (c *Connector) use(ctx context.Context, l limit, of string, e audit.Event) (bool, error) {
	now, err := c.clock(ctx)
	if err != nil {
		return false, err
	}
	if within, err := c.store.use(ctx, l.name(of), l.uses, l.window, now); err != nil || within {
		return within, err
	}
	first, err := c.store.note(ctx, l.name(of), l.window, now)
	if err != nil || !first {
		return false, err
	}
	return false, c.deny(ctx, e, 1)
}

// mayMail counts a mail that somebody asks for and reports whether it may be sent.
// The answer does not depend on whose address it is, or whether it is anybody's.
func (c *Connector) mayMail(ctx context.Context, address string) (bool, error) {
	e := audit.Event{Name: "user-mail-throttled", Object: "user", Description: "Held mails back", Rule: ThrottledNetwork}
	if from := network(httpapi.RequestOf(ctx).Address); from != "" {
		if within, err := c.use(ctx, mailsPerNetwork, from, e); err != nil || !within {
			return false, err
		}
	}
	e.Rule = ThrottledAddress
	hash := sha256.Sum256([]byte(address)) // what is asked for need not be anybody's, and is not kept
	return c.use(ctx, mailsPerAddress, hex.EncodeToString(hash[:16]), e)
}

// guess runs check, which judges a code that user has given as the second factor, and
// counts it when it is wrong. It is counted before it is judged, so that guesses at
// the same moment cannot all pass.
func (c *Connector) guess(ctx context.Context, user identity.User, check func() (reason string, err error)) error {
	e := audit.Event{
		Name: "user-mfa-failed", Object: "user:" + user.Login, Rule: ThrottledAccount,
		Description: "Refused the second factor of " + user.Login,
	}
	within, err := c.use(ctx, codesPerUser, user.ID, e)
	if err != nil {
		return err
	}
	if !within {
		return errs.Errorf(errs.Exhausted, "too many wrong codes, wait up to %d minutes and try again", int(codesPerUser.window.Minutes()))
	}
	reason, err := check()
	if err != nil {
		return err
	}
	if reason != "" {
		e.Rule = reason
		if err := c.deny(ctx, e, 1); err != nil {
			return err
		}
		return identity.Refuse(reason, user.Principal(identity.EmailConnector), "the code is wrong, or has been used already")
	}
	// What succeeded costs nothing. If it cannot be taken back, it has cost a try.
	_ = c.store.unuse(ctx, codesPerUser.name(user.ID))
	return nil
}
