package identity

import "context"

// SessionGeneration returns the number that the sessions of a user must have been begun
// with to be accepted. It changes when all of them end at once, as by a new password,
// [Directory.EndSessions] or [Directory.Disable]. Whoever keeps the first half of a
// sign-in keeps it too, and throws the half away when it has changed.
func (d *Directory) SessionGeneration(ctx context.Context, userID string) (int64, error) {
	_, generation, err := d.store.userGeneration(ctx, userID)
	return generation, err
}
