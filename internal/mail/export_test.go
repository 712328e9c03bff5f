package mail

import (
	"context"
	"time"
)

// The internals that the tests drive.

func (o *Outbox) Round(ctx context.Context) (time.Duration, error) { return o.round(ctx) }

func (o *Outbox) SetPatience(d time.Duration) { o.patience = d }

// Woken reports, once, whether there was a reason to look for mails.
func (o *Outbox) Woken() bool {
	select {
	case <-o.woken:
		return true
	default:
		return false
	}
}

const (
	Lease     = lease
	Retention = retention
	Batch     = batch
)

var Backoff = backoff
