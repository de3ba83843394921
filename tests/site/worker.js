self.name2 = 'dedicated';
onmessage = event => postMessage(event.data + 1);
