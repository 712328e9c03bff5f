package state_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

func event(sequence int) string {
	return fmt.Sprintf(`{"sequence":%d,"timestamp":1,"resourcePreEvent":{"metadata":{"op":"create","urn":"urn:%d"}},"fromTheFuture":{"x":1.0}}`, sequence, sequence%3)
}

func TestEventsComeOutOfOrderAndTwice(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		const many = 40
		var batches []string
		for i := 0; i < many; i += 5 {
			var events []string
			for n := i; n < i+5; n++ {
				events = append(events, event(n))
			}
			batch := `{"events":[` + strings.Join(events, ",") + `]}`
			batches = append(batches, batch, batch)
		}
		rand.Shuffle(len(batches), func(i, k int) { batches[i], batches[k] = batches[k], batches[i] })
		var wait sync.WaitGroup
		for _, batch := range batches {
			wait.Go(func() { u.send("POST", "events/batch", batch).want(204) })
		}
		wait.Wait()
		token := s.do("GET", u.path+"/events", nil).want(200).is("events.39.sequence", "39").is("events.40", "").says(`"fromTheFuture":{"x":1.0}`).get("continuationToken")
		s.do("GET", u.path+"/events?continuationToken="+token, nil).want(200).is("events", "[]").is("continuationToken", token)

		// A reader that follows waits for what overtaken batches still bring.
		u.send("POST", "events", event(41)).want(204)
		s.do("GET", u.path+"/events?continuationToken="+token, nil).want(200).is("events", "[]").is("continuationToken", token)
		u.send("POST", "events", event(40)).want(204)
		s.do("GET", u.path+"/events?continuationToken="+token, nil).want(200).is("events.1.sequence", "41")

		u.send("POST", "events", event(50)).want(204) // 42 to 49 are lost
		u.complete("succeeded").want(204)
		s.do("GET", u.path+"/events", nil).want(200).is("events.42.sequence", "50").is("continuationToken", "null")
		s.do("GET", u.path+"/events?urn=urn:1&type=resourcePreEvent", nil).want(200).is("events.0.sequence", "1").is("events.1.sequence", "4")
		s.do("GET", u.path+"/events?type=summaryEvent", nil).want(200).is("events", "[]").is("continuationToken", "null")
		u.send("POST", "events", event(60)).want(409)
	})
}

func TestEventPages(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		var events []string
		for i := range 2300 {
			events = append(events, event(i))
		}
		u.send("POST", "events/batch", `{"events":[`+strings.Join(events, ",")+`]}`).want(204)
		u.complete("succeeded").want(204)
		seen, token := 0, ""
		for {
			var body struct {
				Events            []json.RawMessage
				ContinuationToken *string
			}
			if err := json.Unmarshal(s.do("GET", u.path+"/events"+token, nil).want(200).body, &body); err != nil {
				t.Fatal(err)
			}
			seen += len(body.Events)
			if body.ContinuationToken == nil {
				break
			}
			token = "?continuationToken=" + *body.ContinuationToken
		}
		if seen != 2300 {
			t.Errorf("%d events", seen)
		}
	})
}

func TestBadEvents(t *testing.T) {
	each(t, func(s *service) {
		u := s.start(s.stack("web", "dev"), "update")
		for _, body := range []string{``, `{}`, `{"events":[]}`, `{"events":[1]}`, `{"events":[{}]}`, `{"events":[{"sequence":-1}]}`, `{"events":[{"sequence":"1"}]}`,
			`{"events":[{"sequence":1.5}]}`, `{"events":[{"sequence":99999999999999999999}]}`} {
			u.send("POST", "events/batch", body).want(400)
		}
		u.send("POST", "events", `[]`).want(400)
		// What an engine says of itself must not keep its update from ending.
		u.send("POST", "events", `{"sequence":0,"summaryEvent":{"resourceChanges":"x"}}`).want(204)
		u.complete("succeeded").want(204)
		s.do("GET", u.path+"/events?continuationToken=x", nil).want(400)
	})
}
