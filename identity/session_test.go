package identity_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

func TestSession(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		w.audit.take()
		ctx := httpapi.WithRequest(t.Context(), httpapi.Request{ID: "r", Address: "192.0.2.7", UserAgent: "Browser/1"})
		secret, session, err := w.CreateSession(ctx, alice.UserID, "email")
		ok(t, err)
		if raw, err := base64.RawURLEncoding.DecodeString(secret); err != nil || len(raw) != 32 {
			t.Errorf("a secret of %d bytes, %v", len(raw), err)
		}
		p, err := w.AuthenticateSession(t.Context(), secret)
		ok(t, err)
		want := alice
		want.SessionID, want.Connector, want.SignedIn = session.ID, "email", session.Created
		if p != want {
			t.Errorf("principal is %+v, want %+v", p, want)
		}
		sessions, err := w.Sessions(t.Context(), alice.UserID)
		if err != nil || len(sessions) != 1 || sessions[0] != session || session.Address != "192.0.2.7" || session.UserAgent != "Browser/1" {
			t.Errorf("sessions are %+v, %v", sessions, err)
		}
		// A new sign-in is a new session, and leaves the old one alone.
		other, second, err := w.CreateSession(t.Context(), alice.UserID, "email")
		ok(t, err)
		if other == secret || second.ID == session.ID {
			t.Error("two sessions share something")
		}
		ok(t, w.EndSession(t.Context(), p))
		ok(t, w.EndSession(t.Context(), p))
		ok(t, w.EndSession(t.Context(), alice)) // has none
		_, err = w.AuthenticateSession(t.Context(), secret)
		if r := reason(t, err, identity.SessionEnded); r.Claimed != p {
			t.Errorf("the refusal claims %+v", r.Claimed)
		}
		_, err = w.AuthenticateSession(t.Context(), other)
		ok(t, err)
		if got, want := w.audit.take(), []string{"user-login user:alice", "user-login user:alice", "user-logout session:" + session.ID}; !slices.Equal(got, want) {
			t.Errorf("recorded %v", got)
		}
	})
}

func TestNoSession(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		secret, session, err := w.CreateSession(t.Context(), alice.UserID, "email")
		ok(t, err)
		_, token, err := w.CreateToken(t.Context(), alice, identity.TokenRequest{})
		ok(t, err)
		// With a context that is over, whatever asks the database is errs.Unavailable.
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for _, bad := range []string{
			"", "x", session.ID, token, secret[1:], secret + "A", secret + "=", secret + "\n", " " + secret, "\n" + secret[1:],
			strings.Repeat("A", 44), strings.Repeat("+", 43), strings.Repeat("A", 42) + "B", strings.Repeat("A", 1<<20),
		} {
			_, err := w.AuthenticateSession(over, bad)
			reason(t, err, identity.SessionMalformed)
		}
		_, err = w.AuthenticateSession(t.Context(), strings.Repeat("A", 43))
		reason(t, err, identity.SessionUnknown)
		_, err = w.AuthenticateToken(over, secret)
		reason(t, err, identity.TokenMalformed)
		_, err = w.AuthenticateSession(over, secret)
		kind(t, err, errs.Unavailable)
		_, _, err = w.CreateSession(t.Context(), "", "email")
		kind(t, err, errs.NotFound)
	})
}

func TestSessionExpiry(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		idle, _, err := w.CreateSession(t.Context(), alice.UserID, "email")
		ok(t, err)
		w.clock.advance(identity.IdleTimeout - time.Second)
		_, err = w.AuthenticateSession(t.Context(), idle) // which moves the limit on
		ok(t, err)
		w.clock.advance(identity.IdleTimeout - time.Second)
		_, err = w.AuthenticateSession(t.Context(), idle)
		ok(t, err)
		w.clock.advance(identity.IdleTimeout)
		_, err = w.AuthenticateSession(t.Context(), idle)
		reason(t, err, identity.SessionExpired)
		if sessions, err := w.Sessions(t.Context(), alice.UserID); err != nil || len(sessions) != 0 {
			t.Errorf("expired sessions are listed: %v, %v", sessions, err)
		}

		busy, _, err := w.CreateSession(t.Context(), alice.UserID, "email")
		ok(t, err)
		end := w.clock.now().Add(identity.AbsoluteTimeout)
		for w.clock.now().Add(11 * time.Hour).Before(end) {
			w.clock.advance(11 * time.Hour)
			_, err := w.AuthenticateSession(t.Context(), busy)
			ok(t, err)
		}
		w.clock.advance(end.Sub(w.clock.now()) - time.Microsecond)
		_, err = w.AuthenticateSession(t.Context(), busy)
		ok(t, err)
		w.clock.advance(time.Microsecond)
		_, err = w.AuthenticateSession(t.Context(), busy)
		reason(t, err, identity.SessionExpired)
	})
}

func TestSessionIsTouchedOnceAMinute(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		secret, session, err := w.CreateSession(t.Context(), alice.UserID, "email")
		ok(t, err)
		lastSeen := func() time.Time {
			sessions, err := w.Sessions(t.Context(), alice.UserID)
			ok(t, err)
			return sessions[0].LastSeen
		}
		w.clock.advance(identity.TouchEvery - time.Second)
		_, err = w.AuthenticateSession(t.Context(), secret)
		ok(t, err)
		if !lastSeen().Equal(session.Created) {
			t.Error("touched within a minute")
		}
		w.clock.advance(time.Second)
		_, err = w.AuthenticateSession(t.Context(), secret)
		ok(t, err)
		if !lastSeen().Equal(w.clock.now()) {
			t.Error("not touched after a minute")
		}
	})
}

// A request that has read the session before it ended must not bring it back.
func TestTouchDoesNotReviveASession(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		secret, session, err := w.CreateSession(t.Context(), alice.UserID, "email")
		ok(t, err)
		p, err := w.AuthenticateSession(t.Context(), secret)
		ok(t, err)
		ok(t, w.EndSession(t.Context(), p))
		alive, err := w.TouchSession(t.Context(), session.ID, w.clock.now().Add(time.Hour))
		if err != nil || alive {
			t.Errorf("a session that has ended is alive: %v", err)
		}
		var row struct{ Ended, LastSeen int64 }
		ok(t, w.db.Reader(t.Context()).Raw("SELECT ended, last_seen FROM sessions WHERE id = ?", session.ID).Scan(&row).Error)
		if row.Ended == 0 || row.LastSeen != session.LastSeen.UnixMicro() {
			t.Errorf("row is %+v", row)
		}
		// Nor must one that was swept meanwhile come back.
		w.clock.advance(identity.AbsoluteTimeout)
		_, err = w.Sweep(t.Context())
		ok(t, err)
		if alive, err := w.TouchSession(t.Context(), session.ID, w.clock.now()); err != nil || alive {
			t.Errorf("a session that was deleted is alive: %v", err)
		}
		_, err = w.AuthenticateSession(t.Context(), secret)
		reason(t, err, identity.SessionUnknown)
	})
}

func TestRequestsRaceWithSignOut(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		for range 10 {
			secret, _, err := w.CreateSession(t.Context(), alice.UserID, "email")
			ok(t, err)
			p, err := w.AuthenticateSession(t.Context(), secret)
			ok(t, err)
			w.clock.advance(2 * identity.TouchEvery) // every request wants to touch
			var group sync.WaitGroup
			start := make(chan bool)
			for range 6 {
				group.Go(func() {
					<-start
					for range 5 {
						if _, err := w.AuthenticateSession(t.Context(), secret); err != nil && errs.KindOf(err) != errs.Unauthenticated {
							t.Error(err)
						}
					}
				})
			}
			group.Go(func() {
				<-start
				if err := w.EndSession(t.Context(), p); err != nil {
					t.Error(err)
				}
				if _, err := w.AuthenticateSession(t.Context(), secret); err == nil {
					t.Error("signed out, and still in")
				}
			})
			close(start)
			group.Wait()
			_, err = w.AuthenticateSession(t.Context(), secret)
			reason(t, err, identity.SessionEnded)
		}
	})
}

func TestEndSessions(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := w.user(t, "alice"), w.user(t, "bob")
		var secrets []string
		for range 3 {
			secret, _, err := w.CreateSession(t.Context(), alice.UserID, "email")
			ok(t, err)
			secrets = append(secrets, secret)
		}
		others, session, err := w.CreateSession(t.Context(), bob.UserID, "email")
		ok(t, err)
		_, token, err := w.CreateToken(t.Context(), alice, identity.TokenRequest{})
		ok(t, err)
		// Nobody ends a session of somebody else by its ID.
		kind(t, w.RevokeSession(t.Context(), alice, session.ID), errs.NotFound)
		sessions, err := w.Sessions(t.Context(), alice.UserID)
		ok(t, err)
		ok(t, w.RevokeSession(t.Context(), alice, sessions[0].ID))
		kind(t, w.RevokeSession(t.Context(), alice, sessions[0].ID), errs.NotFound)
		if left, err := w.Sessions(t.Context(), alice.UserID); err != nil || len(left) != 2 {
			t.Errorf("%v are left, %v", left, err)
		}
		ok(t, w.EndSessions(t.Context(), bob, alice.UserID))
		for _, secret := range secrets {
			_, err := w.AuthenticateSession(t.Context(), secret)
			reason(t, err, identity.SessionEnded)
		}
		_, err = w.AuthenticateSession(t.Context(), others)
		ok(t, err)
		_, err = w.AuthenticateToken(t.Context(), token)
		ok(t, err)
		fresh, _, err := w.CreateSession(t.Context(), alice.UserID, "email")
		ok(t, err)
		_, err = w.AuthenticateSession(t.Context(), fresh)
		ok(t, err)
		// A session of an older generation is worthless even when its row was missed.
		ok(t, w.db.Conn(t.Context()).Exec("UPDATE users SET generation = generation + 1 WHERE id = ?", alice.UserID).Error)
		_, err = w.AuthenticateSession(t.Context(), fresh)
		reason(t, err, identity.SessionEnded)
		if left, err := w.Sessions(t.Context(), alice.UserID); err != nil || len(left) != 0 {
			t.Errorf("%v are left, %v", left, err)
		}
	})
}

func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		const many = 2100 // more than two batches
		now := w.clock.now()
		var values []any
		for i := range many {
			lastSeen, expires := now, now
			if i%2 == 0 {
				lastSeen, expires = now.Add(-identity.IdleTimeout), now.Add(time.Hour)
			}
			id := fmt.Sprint(i)
			values = append(values, id, []byte(id), alice.UserID, lastSeen.UnixMicro(), expires.UnixMicro())
		}
		rows := "INSERT INTO sessions (id, hash, user_id, connector, generation, created, last_seen, expires, ended, address, user_agent) VALUES " +
			strings.Repeat(", (?, ?, ?, 'email', 1, 0, ?, ?, 0, '', '')", many)[2:]
		ok(t, w.db.Conn(t.Context()).Exec(rows, values...).Error)
		secret, _, err := w.CreateSession(t.Context(), alice.UserID, "email")
		ok(t, err)
		if n, err := w.Sweep(t.Context()); err != nil || n != many {
			t.Errorf("swept %d, %v", n, err)
		}
		if n, err := w.Sweep(t.Context()); err != nil || n != 0 {
			t.Errorf("swept %d more, %v", n, err)
		}
		_, err = w.AuthenticateSession(t.Context(), secret)
		ok(t, err)
	})
}

// Without a clock to steer, expiries are judged by the database's own.
func TestDatabaseClock(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db)
		var err error
		w.Directory, err = identity.Open(identity.Config{DB: db, Audit: w.audit})
		ok(t, err)
		alice := w.user(t, "alice")
		secret, session, err := w.CreateSession(t.Context(), alice.UserID, "email")
		ok(t, err)
		token, raw, err := w.CreateToken(t.Context(), alice, identity.TokenRequest{Expires: time.Now().Add(time.Hour)})
		ok(t, err)
		_, err = w.AuthenticateSession(t.Context(), secret)
		ok(t, err)
		_, err = w.AuthenticateToken(t.Context(), raw)
		ok(t, err)
		now, err := db.Now(t.Context())
		ok(t, err)
		ok(t, db.Conn(t.Context()).Exec("UPDATE tokens SET expires = ? WHERE id = ?", now.UnixMicro(), token.ID).Error)
		ok(t, db.Conn(t.Context()).Exec("UPDATE sessions SET expires = ? WHERE id = ?", now.UnixMicro(), session.ID).Error)
		_, err = w.AuthenticateSession(t.Context(), secret)
		reason(t, err, identity.SessionExpired)
		_, err = w.AuthenticateToken(t.Context(), raw)
		reason(t, err, identity.TokenExpired)
		if n, err := w.Sweep(t.Context()); err != nil || n != 1 {
			t.Errorf("swept %d, %v", n, err)
		}
	}, migrations...)
}
