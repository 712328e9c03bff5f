package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/ipuka/ipuka/internal/errs"
)

// Consume makes key worthless until a time has passed: errs.Conflict when it has been
// consumed already, by whichever replica. It joins the transaction of ctx, and of
// several transactions that consume the same key at once one commits. A key is
// remembered for [FlowLife] at least.
func (d *Directory) Consume(ctx context.Context, key string, until time.Time) error {
	if key == "" {
		return errs.Errorf(errs.Invalid, "there is nothing to use up")
	}
	now, err := d.store.clock(ctx)
	if err != nil {
		return err
	}
	if soonest := now.Add(FlowLife); until.Before(soonest) {
		until = soonest
	}
	sum := sha256.Sum256([]byte(key))
	fresh, err := d.store.consume(ctx, hex.EncodeToString(sum[:]), now, until)
	if err == nil && !fresh {
		return errs.Errorf(errs.Conflict, "this has been used already")
	}
	return err
}

// maxOnce bounds the keys that come with one arrival.
const maxOnce = 64

// consumeArrival uses up the flow that brought somebody, and what must not be seen
// twice of what came with them.
func (d *Directory) consumeArrival(ctx context.Context, c ConnectorInfo, f Flow, x External, now time.Time) error {
	switch {
	case f.State == "":
		return refuseArrival(FlowUnknown, c, "the sign-in has not begun here")
	case !now.Before(f.Expires):
		return refuseArrival(FlowExpired, c, "the sign-in took longer than it may")
	case len(x.Once) > maxOnce:
		return refuseArrival(ExternalInvalid, c, "too many things that may be used once")
	}
	if err := d.Consume(ctx, "flow:"+f.State, f.Expires); err != nil {
		return consumed(err, FlowUsed, c, "this sign-in has been completed already")
	}
	for _, once := range x.Once {
		if err := d.Consume(ctx, "once:"+c.Name+":"+once.Key, once.Until); err != nil {
			return consumed(err, Replayed, c, "what the provider sent has been used already")
		}
	}
	return nil
}

func consumed(err error, reason string, c ConnectorInfo, detail string) error {
	if errs.KindOf(err) == errs.Conflict {
		return refuseArrival(reason, c, detail)
	}
	return err
}
