/* The smallest firmware: it counts. */
volatile unsigned int beats;

void app_main(void)
{
    for (;;) {
        beats++;
    }
}
