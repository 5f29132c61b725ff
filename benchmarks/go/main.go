// The echo of the benches over bare grpc-go: a server, and a client that
// measures as benchmarks/_drive.py does.
//
//	go-echo server                      says its address, serves until killed
//	go-echo client ADDRESSES SETTINGS   says its figures as JSON
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/bench/echov1"
)

const (
	warmUp   = 500 * time.Millisecond // as in _drive.py
	timeout  = 30 * time.Second       // as in _ends.py
	sentence = "The mesh carries this sentence there and back again. "
	ticks    = 100 // clock ticks per second in /proc; 100 on every Linux that Go runs on
)

type echo struct {
	echov1.UnimplementedEchoServiceServer
}

func (echo) Execute(_ context.Context, in *echov1.EchoInput) (*echov1.EchoOutput, error) {
	return &echov1.EchoOutput{Text: in.Text}, nil
}

func serve() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	echov1.RegisterEchoServiceServer(server, echo{})
	fmt.Println(listener.Addr())
	return server.Serve(listener)
}

type settings struct {
	Loops   [][2]int `json:"loops"` // payload bytes, tasks
	Seconds float64  `json:"seconds"`
	Servers []int    `json:"servers"`
}

// cpuSeconds is the user and system time of a process so far.
func cpuSeconds(pid int) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		panic(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return float64(user+system) / ticks
}

func cpu(servers []int) (own, theirs float64) {
	for _, pid := range servers {
		theirs += cpuSeconds(pid)
	}
	return cpuSeconds(os.Getpid()), theirs
}

type load struct {
	stubs   []echov1.EchoServiceClient
	turn    atomic.Uint64
	running atomic.Bool
	counts  atomic.Bool
}

// loop calls until the load ends; what ended within the window, in seconds.
func (l *load) loop(size int, group *sync.WaitGroup, report func([]float64)) {
	defer group.Done()
	message := &echov1.EchoInput{Text: strings.Repeat(sentence, size/len(sentence)+1)[:size], Number: 7}
	var latencies []float64
	for l.running.Load() {
		stub := l.stubs[l.turn.Add(1)%uint64(len(l.stubs))]
		begun := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		_, err := stub.Execute(ctx, message)
		cancel()
		if err != nil {
			panic(err)
		}
		if l.counts.Load() {
			latencies = append(latencies, time.Since(begun).Seconds())
		}
	}
	report(latencies)
}

func measure(addresses []string, s settings) (map[string]float64, error) {
	var l load
	for _, address := range addresses {
		connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		l.stubs = append(l.stubs, echov1.NewEchoServiceClient(connection))
	}
	l.running.Store(true)
	var group sync.WaitGroup
	var guard sync.Mutex
	all := make([][]float64, len(s.Loops))
	for number, loop := range s.Loops {
		for range loop[1] {
			group.Add(1)
			go l.loop(loop[0], &group, func(latencies []float64) {
				guard.Lock()
				defer guard.Unlock()
				all[number] = append(all[number], latencies...)
			})
		}
	}
	time.Sleep(warmUp)
	clientBefore, serverBefore := cpu(s.Servers)
	begun := time.Now()
	l.counts.Store(true)
	time.Sleep(time.Duration(s.Seconds * float64(time.Second)))
	l.counts.Store(false)
	spent := time.Since(begun).Seconds()
	clientAfter, serverAfter := cpu(s.Servers)
	l.running.Store(false)
	group.Wait()
	found := map[string]float64{}
	calls := 0
	for number, latencies := range all {
		suffix := ""
		if number > 0 {
			suffix = fmt.Sprintf("_%d", number+1)
		}
		sort.Float64s(latencies)
		calls += len(latencies)
		found["calls"+suffix] = float64(len(latencies))
		found["rate"+suffix] = float64(len(latencies)) / spent
		found["p50_ms"+suffix] = percentile(latencies, 50) * 1e3
		found["p99_ms"+suffix] = percentile(latencies, 99) * 1e3
	}
	found["client_cpu_us"] = (clientAfter - clientBefore) / float64(calls) * 1e6
	found["server_cpu_us"] = (serverAfter - serverBefore) / float64(calls) * 1e6
	found["cpu_us"] = found["client_cpu_us"] + found["server_cpu_us"]
	return found, nil
}

// percentile is by nearest rank, of sorted values.
func percentile(ordered []float64, percent int) float64 {
	rank := (len(ordered)*percent + 99) / 100
	return ordered[max(0, rank-1)]
}

func run(arguments []string) error {
	// Linux: the server dies with the bench that started it.
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	if arguments[0] == "server" {
		return serve()
	}
	var s settings
	if err := json.Unmarshal([]byte(arguments[2]), &s); err != nil {
		return err
	}
	found, err := measure(strings.Split(arguments[1], ","), s)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
