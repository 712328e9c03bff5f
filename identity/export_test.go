package identity

import (
	"context"
	"time"
)

// What the tests need to see from inside.

func FormatToken(raw []byte) string { return formatToken(raw) }

func Checksum(text string) string { return checksum(text) }

func ParseToken(raw string) (hash [32]byte, ok bool) { return parseToken(raw) }

func (d *Directory) TouchSession(ctx context.Context, id string, now time.Time) (bool, error) {
	return d.store.touchSession(ctx, id, now.UnixMicro())
}

func (u *usage) size() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.at)
}

func (d *Directory) Noted() int { return d.use.size() }

func (d *Directory) RecheckAll(ctx context.Context, connectors Connectors) error {
	return d.recheckAll(ctx, connectors)
}
