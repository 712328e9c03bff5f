package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkSignInsBesideTheAPI has people sign in with their passwords, as many at a
// time as there are, while one client goes on asking the API. Reported: sign-ins a
// second, and what they make of the API's median and 99th percentile, each as a
// multiple of the same without them in the same run.
func BenchmarkSignInsBesideTheAPI(b *testing.B) {
	base, token := benchServer(b)
	alone := apiTimes(b, base, token)
	var done atomic.Int64
	var people sync.WaitGroup
	stop := make(chan struct{})
	begin := time.Now()
	for range 8 {
		people.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if signInOnce(b, base) {
					done.Add(1)
				}
			}
		})
	}
	beside := apiTimes(b, base, token)
	close(stop)
	people.Wait()
	b.ReportMetric(float64(done.Load())/time.Since(begin).Seconds(), "sign-ins/s")
	b.ReportMetric(percentile(beside, 50)/percentile(alone, 50), "times-p50")
	b.ReportMetric(percentile(beside, 99)/percentile(alone, 99), "times-p99")
	b.ReportMetric(percentile(alone, 99)*1e3, "alone-p99-ms")
}

// apiTimes returns how long each of many calls took, in seconds.
func apiTimes(b *testing.B, base, token string) []float64 {
	b.Helper()
	var times []float64
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, base+"/api/orgs/acme/members", nil)
		if err != nil {
			b.Fatal(err)
		}
		request.Header.Set("Authorization", "token "+token)
		began := time.Now()
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			b.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			b.Fatalf("the API answers %d", response.StatusCode)
		}
		times = append(times, time.Since(began).Seconds())
	}
	return times
}

func percentile(times []float64, p int) float64 {
	slices.Sort(times)
	return times[(len(times)-1)*p/100]
}

// signInOnce signs in, and reports whether it was let in: too many at a time are not.
func signInOnce(b *testing.B, base string) bool {
	form := url.Values{"login": {"admin"}, "password": {"correct horse battery staple"}, "returnTo": {"/"}}
	request, err := http.NewRequest(http.MethodPost, base+"/signin", strings.NewReader(form.Encode()))
	if err != nil {
		b.Error(err)
		return false
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", base)
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		b.Error(err)
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusSeeOther
}
