package state_test

import (
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/state"
)

// The sweeper ends an update whose client is gone, with nobody asking.
func TestSweeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, databasetest.SQLite(t, state.Migrations))
		s.Close()
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); s.server.Run(ctx) }()
		call := func(method, path, body, token string) string {
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			if token != "" {
				r.Header.Set("Authorization", "update-token "+token)
			}
			if err := s.signer.Sign(r, alice, "1"); err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			s.server.ServeHTTP(w, r)
			answer, _ := io.ReadAll(w.Result().Body)
			return string(answer)
		}
		call("POST", "/api/stacks/acme/web", `{"stackName":"dev"}`, "")
		id := at(t, []byte(call("POST", dev+"/update", `{}`, "")), "updateID")
		token := at(t, []byte(call("POST", dev+"/update/"+id, `{"journalVersion":1}`, "")), "token")
		call("PATCH", dev+"/update/"+id+"/journalentries", `{"entries":[`+success(1, 1, "dev", "a")+`]}`, token)
		status := func() string { return at(t, []byte(call("GET", dev+"/update/"+id, "", "")), "status") } // ends nothing itself
		time.Sleep(9 * time.Minute)
		if got := status(); got != "running" {
			t.Errorf("status %q within the lease", got)
		}
		s.wait(11 * time.Minute)
		time.Sleep(time.Minute)
		if got := status(); got != "failed" {
			t.Errorf("status %q after the lease", got)
		}
		stop()
		<-done
	})
}
